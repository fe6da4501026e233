/** The form of a new character: files that are dropped or chosen, sent one by one. */
import { ask, tell } from "./request.js";

const form = document.getElementById("new");
const drop = document.getElementById("drop");
const progress = document.getElementById("progress");
const files = new Map(); // path in the dropped folder → File

function add(path, file) {
  files.set(path, file);
  document.getElementById("chosen").textContent = String(files.size);
}

/** Every file below a dropped entry; folders are read in batches until an empty one comes. */
async function walk(entry, path) {
  if (entry.isFile) {
    add(path + entry.name, await new Promise((done, fail) => entry.file(done, fail)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const batch = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!batch.length) return;
    for (const inner of batch) await walk(inner, `${path}${entry.name}/`);
  }
}

drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  for (const entry of entries) await walk(entry, "");
});
document.getElementById("files").addEventListener("change", (event) => {
  for (const file of event.target.files) add(file.name, file);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("");
  const button = form.querySelector("button");
  button.disabled = true;
  progress.hidden = false;
  progress.max = files.size || 1;
  try {
    const fields = new FormData(form);
    const made = form.dataset.made
      ? { character: form.dataset.made }
      : await ask("/new", { method: "POST", body: new URLSearchParams({ name: fields.get("name") }) });
    form.dataset.made = made.character; // a second try goes on with the same folder
    for (const [path, file] of [...files]) {
      await ask(`/upload/${made.character}?name=${encodeURIComponent(path)}`, { method: "POST", body: file });
      files.delete(path);
      progress.value += 1;
    }
    const rest = new URLSearchParams({
      trigger: fields.get("trigger"), base: fields.get("base"), source: fields.get("source") ?? "",
    });
    const answer = await ask(`/new/${made.character}/finish`, { method: "POST", body: rest });
    location.assign(answer.goto);
  } catch (error) {
    tell(error.message);
    button.disabled = false;
  }
});
