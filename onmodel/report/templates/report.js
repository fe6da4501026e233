"use strict";
const $ = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Tips: on hover and on keyboard focus; Escape hides them.
const tip = $("#tip");
function showTip(event) {
  const owner = event.target.closest("[data-tip]");
  tip.hidden = !owner;
  if (!owner) return;
  tip.textContent = owner.dataset.tip;
  owner.setAttribute("aria-describedby", "tip");
  const box = owner.getBoundingClientRect();
  const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
  const below = box.bottom + tip.offsetHeight + 12 < window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${window.scrollY + (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6)}px`;
}
document.addEventListener("mouseover", showTip);
document.addEventListener("focusin", showTip);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

// The bias that reproduction is drawn against.
const bias = $("#bias");
if (bias) bias.addEventListener("input", () => all("[data-bias]").forEach((chart) => { chart.hidden = chart.dataset.bias !== bias.value; }));

// Pictures: order, filter, seed.
const rows = $("#rows");
if (rows) {
  const articles = all("article", rows);
  const orders = new Map(articles.map((article) => [article, JSON.parse(article.dataset.order)]));
  const choice = (id) => ($(id) ? $(id).value : "");
  const arrange = () => {
    const [order, kind, seed] = [choice("#order"), choice("#kind"), choice("#seed") || "0"];
    rows.append(...articles.sort((a, b) => orders.get(a)[order] - orders.get(b)[order]));
    articles.forEach((article) => { article.hidden = kind !== "" && article.dataset.kind !== kind; });
    all("img[data-seed]", rows).forEach((image) => { image.hidden = image.dataset.seed !== seed; });
    $("#count").textContent = `${articles.filter((article) => !article.hidden).length} of ${articles.length} prompts`;
  };
  $("#tools").addEventListener("input", arrange);
  $("#tools").addEventListener("submit", (event) => event.preventDefault());
  arrange();

  // Rows scroll together, so that one model stays in one column.
  const strips = all(".strip-row", rows);
  rows.addEventListener("scroll", (event) => {
    strips.forEach((strip) => { if (strip !== event.target && strip.scrollLeft !== event.target.scrollLeft) strip.scrollLeft = event.target.scrollLeft; });
  }, true);

  // The viewer: arrow keys move between models and prompts.
  const viewer = $("#viewer");
  let at = null;
  const show = (button) => {
    at = button;
    const row = button.closest("article");
    const image = $("img:not([hidden])", button);
    $("img", viewer).src = image.src;
    $("img", viewer).alt = image.alt;
    $(".who", viewer).textContent = button.dataset.label;
    $(".what", viewer).textContent = button.dataset.text;
    $(".scores", viewer).textContent = button.dataset.scores;
    row.scrollIntoView({ block: "nearest" });
  };
  const go = (where) => {
    if (where === "close") return viewer.close();
    const across = all("button", at.closest("article"));
    const down = all("article:not([hidden])", rows);
    const column = across.indexOf(at);
    const line = down.indexOf(at.closest("article"));
    const step = { left: [0, -1], right: [0, 1], up: [-1, 0], down: [1, 0] }[where];
    const next = down[line + step[0]] && all("button", down[line + step[0]])[column + step[1]];
    if (next) show(next);
  };
  rows.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) { show(button); viewer.showModal(); }
  });
  viewer.addEventListener("click", (event) => {
    if (event.target === viewer) viewer.close();
    else if (event.target.dataset.go) go(event.target.dataset.go);
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) { event.preventDefault(); go(event.key.slice(5).toLowerCase()); }
  });
  viewer.addEventListener("close", () => { if (at) at.focus(); });
}

// A link to a lineage node opens the list that holds it.
const nodes = $("#nodes");
const openNodes = () => {
  const wanted = location.hash.startsWith("#node-") && document.getElementById(location.hash.slice(1));
  if (wanted) { nodes.open = true; wanted.scrollIntoView(); }
};
if (nodes) { window.addEventListener("hashchange", openNodes); openNodes(); }
