/** The loss of every training, drawn anew while the page is open. */
import { ask } from "./request.js";

const place = document.getElementById("curves");
const charts = new Map();

async function draw() {
  const trainings = await ask(place.dataset.source);
  for (const [name, [step, loss]] of Object.entries(trainings)) {
    if (charts.has(name)) {
      charts.get(name).setData([step, loss]);
      continue;
    }
    const ink = getComputedStyle(document.body).color;
    const axis = { stroke: ink, grid: { stroke: "#8883" } };
    charts.set(name, new uPlot({
      title: name, width: Math.min(900, place.clientWidth), height: 220, axes: [axis, axis],
      scales: { x: { time: false } },
      series: [{ label: place.dataset.step }, { label: place.dataset.loss, stroke: "#1d68ab" }],
    }, [step, loss], place));
  }
}

document.addEventListener("DOMContentLoaded", draw);
if (document.readyState !== "loading") draw();
setInterval(draw, 3000);
