/** Loss, held-out loss and learning rate of every training, drawn anew while the page is open. */
import { ask } from "./request.js";

const place = document.getElementById("curves");
const over = document.getElementById("over");
const charts = new Map(); // training → its chart
const INKS = ["#1d68ab", "#b8480f"];

/** The series of a chart: three for each training, the one laid over in another colour. */
function series(names) {
  const { loss, heldout, rate } = place.dataset;
  return names.flatMap((name, at) => [
    { label: `${name} ${loss}`, stroke: INKS[at], spanGaps: true },
    { label: `${name} ${heldout}`, stroke: INKS[at], dash: [6, 4], spanGaps: true, points: { show: true } },
    { label: `${name} ${rate}`, stroke: `${INKS[at]}66`, scale: "rate", spanGaps: true },
  ]);
}

/** The held-out losses by quarter of the noise: the noisier, the fainter. */
function quarters(names) {
  return names.flatMap((name, at) => [1, 2, 3, 4].map((quarter) => ({
    label: `${name} ${place.dataset.quartile} ${quarter}`, stroke: INKS[at] + ["ff", "bb", "88", "55"][quarter - 1],
    spanGaps: true, points: { show: true },
  })));
}

/** Draw a chart, or give the one of this name its new data. */
function show(name, { steps, columns }, made, axes) {
  const names = Object.keys(columns);
  const data = [steps, ...names.flatMap((one) => Object.values(columns[one]))];
  const before = charts.get(name);
  if (before && before.names === names.join("\n")) {
    before.chart.setData(data);
    return;
  }
  const chart = new uPlot({
    title: name, width: Math.min(900, place.clientWidth), height: 260, axes,
    scales: { x: { time: false } },
    series: [{ label: place.dataset.step }, ...made(names)],
  }, data);
  if (before) before.chart.root.replaceWith(chart.root); else place.append(chart.root);
  before?.chart.destroy();
  charts.set(name, { chart, names: names.join("\n") });
}

async function draw() {
  const query = over?.value
    ? `?${new URLSearchParams({ over: over.value, stage: over.selectedOptions[0].dataset.stage })}` : "";
  const found = await ask(place.dataset.source + query);
  const axis = { stroke: getComputedStyle(document.body).color, grid: { stroke: "#8883" } };
  const rate = {
    ...axis, scale: "rate", side: 1, size: 70, grid: { show: false },
    values: (chart, ticks) => ticks.map((value) => value.toExponential(1)),
  };
  for (const [name, curves] of Object.entries(found)) {
    show(name, curves, series, [axis, axis, rate]);
    if (curves.quartiles.steps.length) show(`${name}: ${place.dataset.quartiles}`, curves.quartiles, quarters, [axis, axis]);
  }
}

over?.addEventListener("change", draw);
document.addEventListener("DOMContentLoaded", draw);
if (document.readyState !== "loading") draw();
setInterval(draw, 3000);
