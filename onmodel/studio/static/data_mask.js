/** The dialog that paints a mask. The canvas is the overlay that the server gives and takes:
 * opaque where nothing is learnt. */
import { ask } from "./request.js";

const COLOUR = "rgb(214, 40, 40)";
const STEPS = 20; // strokes that can be taken back

/** The function that opens the dialog for a row; `changed` is called after a mask was saved. */
export function painting(url, changed) {
  const dialog = document.getElementById("paint-dialog");
  const [image, canvas, form, ring] = ["img", "canvas", "form", ".brush"].map((name) => dialog.querySelector(name));
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const state = { row: null, at: null, down: false, before: [], after: [] };

  async function open(row) {
    state.row = row;
    state.before = [];
    state.after = [];
    dialog.querySelector("[data-name]").textContent = row.name;
    fail("");
    image.src = `${url}/picture/${row.content}`;
    const overlay = new Image();
    overlay.src = `${url}/mask/${row.content}?mask=${row.mask}&at=${Date.now()}`;
    try {
      await Promise.all([image.decode(), overlay.decode()]);
    } catch {
      fail(row.name);
    }
    canvas.width = overlay.naturalWidth || 1;
    canvas.height = overlay.naturalHeight || 1;
    pen.drawImage(overlay, 0, 0);
    canvas.parentElement.style.setProperty("--ratio", canvas.width / canvas.height);
    form.size.max = Math.max(16, Math.round(Math.max(canvas.width, canvas.height) / 3));
    form.size.value = Math.round(form.size.max / 5);
    dialog.showModal();
    move([canvas.width / 2, canvas.height / 2]);
    canvas.focus();
  }

  const fail = (sentence) => { dialog.querySelector(".mistake").textContent = sentence; };

  /** Keep what there is, so that what follows can be taken back. */
  function keep() {
    state.before.push(pen.getImageData(0, 0, canvas.width, canvas.height));
    if (state.before.length > STEPS) state.before.shift();
    state.after = [];
  }

  function step(from, to) {
    if (!from.length) return;
    to.push(pen.getImageData(0, 0, canvas.width, canvas.height));
    pen.putImageData(from.pop(), 0, 0);
  }

  /** Paint from the brush's place to another. */
  function paint(to) {
    pen.globalCompositeOperation = form.does.value === "out" ? "source-over" : "destination-out";
    pen.strokeStyle = COLOUR;
    pen.lineCap = "round";
    pen.lineWidth = Number(form.size.value);
    pen.beginPath();
    pen.moveTo(...state.at);
    pen.lineTo(to[0] + 0.01, to[1]); // a line of no length paints nothing
    pen.stroke();
    pen.globalCompositeOperation = "source-over";
  }

  function move(to) {
    state.at = [Math.max(0, Math.min(canvas.width, to[0])), Math.max(0, Math.min(canvas.height, to[1]))];
    const scale = canvas.clientWidth / canvas.width;
    ring.style.left = `${state.at[0] * scale}px`;
    ring.style.top = `${state.at[1] * scale}px`;
    ring.style.width = ring.style.height = `${Number(form.size.value) * scale}px`;
  }

  function place(event) {
    const area = canvas.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width * canvas.width, (event.clientY - area.top) / area.height * canvas.height];
  }

  function fill(opaque) {
    keep();
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.fillStyle = COLOUR;
    if (opaque) pen.fillRect(0, 0, canvas.width, canvas.height);
  }

  function invert() {
    keep();
    const old = pen.getImageData(0, 0, canvas.width, canvas.height);
    const colour = COLOUR.match(/\d+/g).map(Number);
    for (let i = 0; i < old.data.length; i += 4) {
      old.data.set(colour, i);
      old.data[i + 3] = 255 - old.data[i + 3];
    }
    pen.putImageData(old, 0, 0);
  }

  async function send(body) {
    try {
      const name = new URLSearchParams({ name: state.row.name });
      await ask(`${url}/data/mask?${name}`, { method: "POST", body, headers: { Accept: "application/json", "Content-Type": "image/png" } });
      dialog.close();
      await changed();
    } catch (error) {
      fail(error.message);
    }
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    keep();
    state.down = true;
    move(place(event));
    paint(state.at);
  });
  canvas.addEventListener("pointermove", (event) => {
    const to = place(event);
    if (state.down) paint(to);
    move(to);
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { state.down = false; });

  function resize(times) {
    form.size.value = Math.round(Number(form.size.value) * times);
    move(state.at);
  }
  canvas.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const far = Math.max(1, Number(form.size.value) / 2);
    if (ways[event.key]) move([state.at[0] + far * ways[event.key][0], state.at[1] + far * ways[event.key][1]]);
    else if (event.key === " ") { keep(); paint(state.at); }
    else if (event.key === "[") resize(0.8);
    else if (event.key === "]") resize(1.25);
    else if (event.key === "e") form.does.value = form.does.value === "out" ? "learn" : "out";
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey)) return;
    if (event.key !== "z" && event.key !== "y") return;
    event.preventDefault();
    actions[event.key === "z" ? "undo" : "redo"]();
  });
  form.size.addEventListener("input", () => move(state.at));

  const actions = {
    undo: () => step(state.before, state.after),
    redo: () => step(state.after, state.before),
    out: () => fill(true),
    learn: () => fill(false),
    invert,
    remove: () => send(new Blob([])),
    cancel: () => dialog.close(),
  };
  for (const button of form.querySelectorAll("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do]());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    canvas.toBlob((data) => send(data), "image/png");
  });
  return open;
}
