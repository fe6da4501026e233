/** The grid of a data set: only the rows in view are in the page, whatever the number of pictures. */
import { cropping } from "./data_crop.js";
import { painting } from "./data_mask.js";
import { ask, post, tell } from "./request.js";
import { suggest } from "./suggest.js";

const CELL = 148; // pixels, a picture with its name
const PAGE = 200; // rows of one request
const root = document.getElementById("data");
const url = root.dataset.url;
const grid = document.getElementById("grid");
const spacer = document.getElementById("spacer");
const state = { query: "", total: 0, pages: new Map(), selected: new Set(), at: 0, anchor: 0, generation: 0 };
const cells = new Map(); // place → element
const showMasks = document.getElementById("show-masks");

const columns = () => Math.max(1, Math.floor(grid.clientWidth / CELL));
const rowAt = (place) => state.pages.get(Math.floor(place / PAGE))?.[place % PAGE];

async function load(page) {
  if (state.pages.has(page)) return;
  state.pages.set(page, []); // asked for
  const generation = state.generation;
  const params = new URLSearchParams({ q: state.query, from: page * PAGE, count: PAGE });
  const found = await ask(`${url}/data/rows?${params}`);
  if (generation !== state.generation) return; // another query meanwhile
  state.pages.set(page, found.rows);
  state.total = found.total;
  spacer.style.height = `${Math.ceil(state.total / columns()) * CELL}px`;
  counts();
  draw();
}

function counts() {
  const { pictures, selected, none } = root.dataset;
  const chosen = `, ${state.selected.size ? `${state.selected.size.toLocaleString("en")} ${selected}` : none}`;
  document.getElementById("counts").textContent = `${state.total.toLocaleString("en")} ${pictures}${chosen}`;
}

function draw() {
  const wide = columns();
  const first = Math.max(0, Math.floor(grid.scrollTop / CELL) - 1) * wide;
  const last = Math.min(state.total, (Math.ceil((grid.scrollTop + grid.clientHeight) / CELL) + 1) * wide);
  for (const [place, cell] of cells) {
    if (place < first || place >= last) { cell.remove(); cells.delete(place); }
  }
  for (let place = first; place < last; place++) {
    const row = rowAt(place);
    if (!row) { load(Math.floor(place / PAGE)).catch((error) => tell(error.message)); continue; }
    paint(place, row, wide);
  }
}

function paint(place, row, wide) {
  let cell = cells.get(place);
  if (!cell) {
    cell = document.createElement("div");
    cell.className = "cell";
    cell.id = `cell-${place}`;
    cell.setAttribute("role", "option");
    cell.append(...["img", "img", "span"].map((name) => document.createElement(name)));
    for (const image of cell.querySelectorAll("img")) image.alt = "";
    cell.children[1].className = "mask";
    cell.addEventListener("click", (event) => choose(place, event.ctrlKey || event.metaKey, event.shiftKey));
    cells.set(place, cell);
    spacer.append(cell);
  }
  const source = `${url}/thumb/${row.content}`;
  if (!cell.firstChild.src.endsWith(source)) cell.firstChild.src = source;
  overlay(cell.children[1], row, "&small=1");
  cell.lastChild.textContent = row.name + (row.findings.length ? ` ⚠${row.findings.length}` : "");
  cell.style.transform = `translate(${(place % wide) * CELL}px, ${Math.floor(place / wide) * CELL}px)`;
  cell.classList.toggle("out", Boolean(row.excluded));
  cell.classList.toggle("here", place === state.at);
  cell.setAttribute("aria-selected", String(state.selected.has(row.name)));
  const { excluded, cropped, masked } = root.dataset;
  const facts = [row.excluded && excluded, (row.crop.turn || row.crop.box.length) && cropped, row.mask && masked];
  cell.setAttribute("aria-label", [row.name, ...facts.filter(Boolean)].join(", "));
}

/** Show a row's mask in an image, where masks are shown. */
function overlay(image, row, more = "") {
  image.hidden = !row.mask || !showMasks.checked;
  const source = `${url}/mask/${row.content}?mask=${row.mask}${more}`;
  if (!image.hidden && !image.src.endsWith(source)) image.src = source;
}

async function refresh(keepScroll = true) {
  state.generation++;
  state.pages.clear();
  for (const cell of cells.values()) cell.remove();
  cells.clear();
  if (!keepScroll) grid.scrollTop = 0;
  const page = Math.floor((Math.floor(grid.scrollTop / CELL) * columns()) / PAGE);
  await load(page);
  draw();
}

function choose(place, add, range) {
  const row = rowAt(place);
  if (!row) return;
  if (range) {
    for (let i = Math.min(state.anchor, place); i <= Math.max(state.anchor, place); i++) {
      if (rowAt(i)) state.selected.add(rowAt(i).name);
    }
  } else if (add) {
    if (!state.selected.delete(row.name)) state.selected.add(row.name);
    state.anchor = place;
  } else {
    state.selected.clear();
    state.selected.add(row.name);
    state.anchor = place;
    open(row);
  }
  move(place);
  counts();
}

function move(place) {
  state.at = Math.max(0, Math.min(state.total - 1, place));
  const top = Math.floor(state.at / columns()) * CELL;
  if (top < grid.scrollTop) grid.scrollTop = top;
  if (top + CELL > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + CELL - grid.clientHeight;
  grid.setAttribute("aria-activedescendant", `cell-${state.at}`);
  draw();
}

function open(row) {
  const details = document.getElementById("details");
  details.hidden = false;
  details.dataset.name = row.name;
  document.getElementById("large").src = `${url}/picture/${row.content}`;
  overlay(document.getElementById("overlay"), row);
  document.getElementById("name").textContent = row.name;
  document.getElementById("said").replaceChildren(...row.tags.map(([tag, by]) => {
    const item = document.createElement("li");
    item.textContent = tag;
    item.title = by;
    item.dataset.by = by.split(/[ :]/)[0];
    const source = document.createElement("span"); // for a screen reader
    source.textContent = ` (${by})`;
    item.append(source);
    return item;
  }));
  const words = document.getElementById("words");
  words.tags.value = row.tags.map(([tag]) => tag).join(", ");
  words.sentence.value = row.sentence;
  words.dataset.sentence = row.sentence;
  words.dataset.tags = words.tags.value;
  document.getElementById("findings").replaceChildren(...row.findings.map((finding) => {
    const item = document.createElement("li");
    item.textContent = `${finding.kind}: ${finding.evidence} `;
    if (finding.fixable) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "quiet";
      button.textContent = root.dataset.fix;
      button.addEventListener("click", () => change("fix", { ids: [finding.id] }));
      item.append(button);
    }
    return item;
  }));
}

/** The row of the picture that is open beside the grid. */
function opened() {
  const name = document.getElementById("details").dataset.name;
  return [...state.pages.values()].flat().find((row) => row.name === name);
}

/** Show the data set anew: the grid, the open picture and the open panels, except for one. */
async function update(except = null) {
  await refresh();
  const shown = opened();
  if (shown) open(shown);
  for (const panel of document.querySelectorAll("details[open] > [data-panel]")) {
    if (panel !== except) reload(panel);
  }
}

/** Ask for a panel anew. */
const reload = (panel) => window.htmx.trigger(panel, "reload");

let sent = Promise.resolve(); // the changes until now

/** Send a change after those before it, and show its result; what `undo` takes back depends on it. */
function change(action, body = {}) {
  sent = sent.then(() => send(action, body));
  return sent;
}

async function send(action, body) {
  try {
    tell("");
    const answer = await post(`${url}/data/${action}`, body);
    await update();
    return answer;
  } catch (error) {
    tell(error.message);
    return null;
  }
}

/** What a change is about: the selected pictures, else all that the query finds. */
const selection = () => (state.selected.size ? { names: [...state.selected] } : { q: state.query });
const selectedOnly = () => (state.selected.size ? selection() : { names: rowAt(state.at) ? [rowAt(state.at).name] : [] });

document.getElementById("keep").addEventListener("click", () => change("decide", { ...selectedOnly(), keep: true }));
document.getElementById("exclude").addEventListener("click", () => change("decide", { ...selectedOnly(), keep: false }));
document.getElementById("undo").addEventListener("click", () => change("undo"));
document.getElementById("redo").addEventListener("click", () => change("redo"));
document.getElementById("all").addEventListener("click", () => { state.selected.clear(); counts(); draw(); });

document.getElementById("turn-left").addEventListener("click", () => turn(270));
document.getElementById("turn-right").addEventListener("click", () => turn(90));
const turn = (by) => change("turn", { ...selectedOnly(), by });

const openCrop = cropping(url, update);
const openPaint = painting(url, update);
document.getElementById("open-crop").addEventListener("click", () => opened() && openCrop(opened()));
document.getElementById("open-paint").addEventListener("click", () => opened() && openPaint(opened()));

function toggleMasks() {
  root.classList.toggle("with-masks", showMasks.checked);
  draw();
  if (opened()) overlay(document.getElementById("overlay"), opened());
}
showMasks.addEventListener("change", toggleMasks);
const makeMasks = document.getElementById("make-masks");
makeMasks.addEventListener("submit", (event) => {
  event.preventDefault();
  change("masks", { ...selection(), ...Object.fromEntries(new FormData(makeMasks)) });
});
root.addEventListener("input", (event) => { // sliders that show their number
  if ("shows" in event.target.dataset) event.target.parentElement.querySelector("output").value = event.target.value;
});

root.addEventListener("click", (event) => { // proposed repeats
  const button = event.target.closest("[data-sets]");
  if (!button) return;
  for (const [name, number] of Object.entries(JSON.parse(button.dataset.sets))) {
    const slider = button.form.elements[`repeats.${name}`];
    slider.value = number;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
  }
});

const edit = document.getElementById("edit");
async function sendEdit(preview) {
  const fields = Object.fromEntries(new FormData(edit));
  const body = { ...selection(), ...fields, preview };
  const answer = preview
    ? await post(`${url}/data/edit`, body).catch((error) => { tell(error.message); return null; })
    : await change("edit", body);
  if (!answer) return;
  const lines = [`${answer.changed.toLocaleString("en")} ${root.dataset.change}`];
  for (const row of answer.rows.slice(0, preview ? 5 : 0)) lines.push(`${row.name}: ${row.after.join(", ")}`);
  document.getElementById("changes").textContent = lines.join("\n");
}
document.getElementById("preview").addEventListener("click", () => sendEdit(true));
edit.addEventListener("submit", (event) => { event.preventDefault(); sendEdit(false); });

const words = document.getElementById("words");
words.addEventListener("submit", async (event) => {
  event.preventDefault();
  const names = [document.getElementById("details").dataset.name];
  const wanted = new FormData(words); // each change shows the fields anew
  const seen = { ...words.dataset };
  for (const key of ["tags", "sentence"]) {
    const value = wanted.get(key).replaceAll("\r\n", "\n");
    if (value !== seen[key]) await change("decide", { names, [key]: value, seen: seen[key] });
  }
});

suggest(words.tags, `${url}/data/tags`, root.dataset.options);
for (const field of [edit.add, edit.remove, edit.front]) suggest(field, `${url}/data/tags`, root.dataset.options);
suggest(edit.replace, `${url}/data/tags`, root.dataset.options, ",=");

const query = document.getElementById("query");
let waiting = 0;
query.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(async () => {
    state.query = query.value;
    try {
      tell("");
      await refresh(false);
      const before = query.value.slice(0, query.value.search(/\S*$/));
      const word = query.value.slice(before.length);
      const found = word ? await ask(`${url}/data/complete?${new URLSearchParams({ word })}`) : [];
      document.getElementById("completions").replaceChildren(...found.map((text) => {
        const option = document.createElement("option");
        option.value = before + text;
        return option;
      }));
    } catch (error) {
      if (query.value.endsWith(":") || query.value.split('"').length % 2 === 0) return; // being typed
      tell(error.message);
    }
  }, 150);
});
document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("data").addEventListener("click", (event) => {
  const chip = event.target.closest("[data-query]");
  if (!chip) return;
  query.value = chip.dataset.query;
  query.dispatchEvent(new Event("input"));
  if (grid.getBoundingClientRect().top > innerHeight - CELL) grid.scrollIntoView({ block: "end" });
});

for (const details of document.querySelectorAll("details:has(> [data-panel])")) {
  details.addEventListener("toggle", () => { if (details.open) reload(details.querySelector("[data-panel]")); });
}
document.body.addEventListener("dataset-changed", (event) => { // an answer in a panel
  update(event.target.closest("[data-panel]")).catch((error) => tell(error.message));
});
let busy = false; // whether the last message told of a job that runs
document.getElementById("job").addEventListener("htmx:sseMessage", (event) => {
  const ended = event.target.querySelector("[data-ended]");
  if (ended && busy) update().catch((error) => tell(error.message));
  busy = !ended && event.target.childElementCount > 0;
});

const KEYS = {
  ArrowRight: () => move(state.at + 1),
  ArrowLeft: () => move(state.at - 1),
  ArrowDown: () => move(state.at + columns()),
  ArrowUp: () => move(state.at - columns()),
  Home: () => move(0),
  End: () => move(state.total - 1),
  " ": () => choose(state.at, true, false),
  Enter: () => choose(state.at, false, false),
  k: () => change("decide", { ...selectedOnly(), keep: true }),
  x: () => change("decide", { ...selectedOnly(), keep: false }),
  r: () => turn(90),
  R: () => turn(270),
  c: () => rowAt(state.at) && openCrop(rowAt(state.at)),
  p: () => rowAt(state.at) && openPaint(rowAt(state.at)),
  m: () => { showMasks.checked = !showMasks.checked; toggleMasks(); },
};
grid.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const action = KEYS[event.key];
  if (action) { event.preventDefault(); action(); }
});
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || /INPUT|TEXTAREA/.test(event.target.tagName)) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "z") { event.preventDefault(); change("undo"); }
  if (event.key === "y") { event.preventDefault(); change("redo"); }
});

grid.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
new ResizeObserver(() => {
  spacer.style.height = `${Math.ceil(state.total / columns()) * CELL}px`;
  draw();
}).observe(grid);
refresh().catch((error) => tell(error.message));
