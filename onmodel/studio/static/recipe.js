/** The form beside the text: a changed field changes the text, which is then checked. */
import { ask, tell } from "./request.js";

const form = document.getElementById("recipe");
const text = document.getElementById("text");
const open = new Set();

document.getElementById("forms").addEventListener("toggle", (event) => {
  const { stage } = event.target.dataset;
  if (event.target.open) open.add(stage); else open.delete(stage);
}, true);
document.body.addEventListener("htmx:afterSwap", () => {
  for (const stage of document.querySelectorAll("details.stage")) stage.open = open.has(stage.dataset.stage);
});
document.getElementById("forms").addEventListener("change", async (event) => {
  const { name } = event.target.dataset;
  if (!name) return;
  const { stage } = event.target.closest("details").dataset;
  try {
    tell("");
    const body = new URLSearchParams({ text: text.value, stage, name, value: event.target.value });
    text.value = (await ask(form.dataset.set, { method: "POST", body })).text;
    text.dispatchEvent(new Event("changed-by-form"));
  } catch (error) {
    tell(error.message);
  }
});
form.addEventListener("submit", (event) => event.preventDefault());
