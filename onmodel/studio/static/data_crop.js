/** The dialog that turns and crops a picture: a rectangle over the whole picture, by pointer, by
 * keys, or as numbers. Only the server knows what a crop means. */
import { post } from "./request.js";

const NEAR = 12; // pixels from an edge within which it is dragged
const STEP = 0.01; // of the longer side, for one key

/** The function that opens the dialog for a row; `changed` is called after a crop was saved. */
export function cropping(url, changed) {
  const dialog = document.getElementById("crop-dialog");
  const [image, frame, form] = ["img", ".crop-box", "form"].map((name) => dialog.querySelector(name));
  const stage = dialog.querySelector(".stage");
  const state = { row: null, turn: 0, box: [0, 0, 1, 1], wide: 1, high: 1 };

  function open(row) {
    state.row = row;
    dialog.querySelector("[data-name]").textContent = row.name;
    show(row.crop.turn, row.crop.box);
    dialog.showModal();
    draw();
    frame.focus();
  }

  /** Show the whole picture turned by `turn` with a box; [] is all of it. */
  function show(turn, box) {
    const [width, height] = state.row.crop.whole;
    state.turn = turn;
    [state.wide, state.high] = turn % 180 ? [height, width] : [width, height];
    state.box = box.length ? [...box] : [0, 0, state.wide, state.high];
    stage.style.setProperty("--ratio", state.wide / state.high);
    image.src = `${url}/picture/${state.row.content}?turn=${turn}`;
    dialog.querySelector(".mistake").textContent = "";
    draw();
  }

  function draw() {
    const [left, top, right, bottom] = state.box;
    const sides = { left: left / state.wide, top: top / state.high, width: (right - left) / state.wide, height: (bottom - top) / state.high };
    for (const [side, share] of Object.entries(sides)) frame.style[side] = `${100 * share}%`;
    const numbers = { left, top, width: right - left, height: bottom - top };
    for (const [name, value] of Object.entries(numbers)) {
      if (document.activeElement !== form[name]) form[name].value = value;
    }
  }

  const clamp = (value, least, most) => Math.round(Math.max(least, Math.min(most, value)));

  /** Set the edges, in whole pixels within the picture. */
  function set(left, top, right, bottom) {
    state.box = [clamp(left, 0, state.wide - 1), clamp(top, 0, state.high - 1), 0, 0];
    state.box[2] = clamp(right, state.box[0] + 1, state.wide);
    state.box[3] = clamp(bottom, state.box[1] + 1, state.high);
    draw();
  }

  function shift(across, down) {
    const [left, top, right, bottom] = state.box;
    const x = clamp(across, -left, state.wide - right);
    const y = clamp(down, -top, state.high - bottom);
    set(left + x, top + y, right + x, bottom + y);
  }

  /** A pointer's place in pixels of the picture. */
  function place(event) {
    const area = stage.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width * state.wide, (event.clientY - area.top) / area.height * state.high];
  }

  let drag = null;
  stage.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    const near = NEAR * state.wide / stage.clientWidth;
    const box = [...state.box];
    const inside = x > box[0] - near && x < box[2] + near && y > box[1] - near && y < box[3] + near;
    const edges = [0, 1, 2, 3].filter((i) => inside && Math.abs((i % 2 ? y : x) - box[i]) < near);
    const all = box[0] === 0 && box[1] === 0 && box[2] === state.wide && box[3] === state.high;
    drag = { x, y, box, edges, moves: inside && !edges.length && !all };
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [x, y] = place(event);
    if (drag.moves) {
      state.box = [...drag.box];
      shift(x - drag.x, y - drag.y);
    } else if (drag.edges.length) {
      const box = [...drag.box];
      for (const i of drag.edges) box[i] = i % 2 ? y : x;
      set(...box);
    } else {
      set(Math.min(x, drag.x), Math.min(y, drag.y), Math.max(x, drag.x), Math.max(y, drag.y));
    }
  });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { drag = null; });

  frame.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    const step = Math.max(1, Math.round(STEP * Math.max(state.wide, state.high)));
    const [left, top, right, bottom] = state.box;
    if (event.shiftKey) set(left, top, right + step * way[0], bottom + step * way[1]);
    else shift(step * way[0], step * way[1]);
  });
  form.addEventListener("input", () => {
    const [left, top, width, height] = ["left", "top", "width", "height"].map((name) => Number(form[name].value));
    if (width > 0 && height > 0) set(left, top, left + width, top + height);
  });
  for (const button of form.querySelectorAll("[data-turn]")) {
    button.addEventListener("click", () => show((state.turn + Number(button.dataset.turn)) % 360, []));
  }
  form.querySelector("[data-whole]").addEventListener("click", () => set(0, 0, state.wide, state.high));
  form.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await post(`${url}/data/crop`, { name: state.row.name, turn: state.turn, box: state.box });
      dialog.close();
      await changed();
    } catch (error) {
      dialog.querySelector(".mistake").textContent = error.message;
    }
  });
  return open;
}
