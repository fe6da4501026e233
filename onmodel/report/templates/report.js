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

// The model that the page is about: every choice of it, and the blocks that belong to one model.
const models = all("select.model");
const model = () => models[0].value;
models.forEach((select) => select.addEventListener("input", () => {
  models.forEach((other) => { other.value = select.value; });
  all("[data-model]").forEach((block) => { block.hidden = block.dataset.model !== select.value; });
}));

// Pictures: order, filter, seed.
const rows = $("#rows");
if (rows) {
  const articles = all("article", rows);
  const orders = new Map(articles.map((article) => [article, JSON.parse(article.dataset.order)]));
  const choice = (id) => ($(id) ? $(id).value : "");
  const arrange = () => {
    const [order, kind, seed] = [choice("#order"), choice("#kind"), choice("#seed") || "0"];
    const rank = (article) => orders.get(article)[model()][order];
    rows.append(...articles.sort((a, b) => rank(a) - rank(b)));
    articles.forEach((article) => { article.hidden = kind !== "" && article.dataset.kind !== kind; });
    all("[data-seed]", rows).forEach((one) => { one.hidden = one.dataset.seed !== seed; });
    $("#count").textContent = `${articles.filter((article) => !article.hidden).length} of ${articles.length} prompts`;
    all("[data-of]", rows).forEach((figure) => {
      const chosen = figure.dataset.of === model();
      figure.classList.toggle("final", chosen);
      if (chosen) figure.parentElement.scrollLeft = figure.offsetLeft - figure.parentElement.offsetLeft - 116; // and its neighbour
    });
  };
  $("#tools").addEventListener("input", arrange);
  models.forEach((select) => select.addEventListener("input", arrange));
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

// Two models under a slider: pictures are those of the rows above.
const pair = $("#pair");
if (pair) {
  const changes = JSON.parse($("#differences").textContent);
  const names = models.length ? Object.fromEntries(all("option", models[0]).map((option) => [option.textContent, option.value])) : {};
  const side = (id) => { const select = $(id); return { at: select.value, name: select.selectedOptions[0].textContent }; };
  const put = (image, article, column) => {
    const button = all("button", article)[column];
    const seed = $("#noise") ? $("#noise").value : "0";
    const from = button && $(`img[data-seed="${seed}"]`, button);
    image.hidden = !from;
    if (from) { image.src = from.src; image.alt = from.alt; }
    return button;
  };
  const compare = () => {
    const [left, right] = [side("#left"), side("#right")];
    const article = all("article", rows).find((one) => one.dataset.id === $("#prompt").value);
    put($("#over"), article, left.at);
    $("#words").textContent = put($("#under"), article, right.at).dataset.text;
    [["#left-name", left], ["#right-name", right]].forEach(([id, one]) => { $(id).textContent = one.name; });
    const found = (changes[names[right.name]] || {})[names[left.name]];
    $("#changes").hidden = !found;
    $("#no-changes").hidden = Boolean(found);
    if (!found) return;
    $(".left", $("#changes")).textContent = left.name;
    $(".right", $("#changes")).textContent = right.name;
    all("tbody td", $("#changes")).forEach((cell, at) => {
      const [outcome, words, change] = found[at];
      cell.className = outcome;
      cell.replaceChildren(...[["outcome", words], ["change", change]].map(([kind, text]) => Object.assign(document.createElement("span"), { className: kind, textContent: text })));
    });
  };
  const stage = $("#stage");
  const uncover = () => stage.style.setProperty("--at", `${$("#uncover").value}%`);
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    $("#uncover").value = 100 * (event.clientX - box.left) / box.width;
    uncover();
  };
  pair.addEventListener("input", compare);
  pair.addEventListener("submit", (event) => event.preventDefault());
  $("#uncover").addEventListener("input", uncover);
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
  compare();
}

// A link to a lineage node opens the list that holds it.
const nodes = $("#nodes");
const openNodes = () => {
  const wanted = location.hash.startsWith("#node-") && document.getElementById(location.hash.slice(1));
  if (wanted) { nodes.open = true; wanted.scrollIntoView(); }
};
if (nodes) { window.addEventListener("hashchange", openNodes); openNodes(); }
