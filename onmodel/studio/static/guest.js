/** A LoRA file of someone else, chosen or dropped: it joins the character's files. */
import { ask, tell } from "./request.js";

const place = document.getElementById("guest-drop");

async function send(file) {
  if (!file) return;
  try {
    tell("");
    await ask(`${place.dataset.url}?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    location.reload();
  } catch (error) {
    tell(error.message);
  }
}

if (place) {
  document.getElementById("guest").addEventListener("change", (event) => send(event.target.files[0]));
  for (const name of ["dragenter", "dragover"]) {
    place.addEventListener(name, (event) => { event.preventDefault(); place.classList.add("over"); });
  }
  place.addEventListener("dragleave", () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    send(event.dataTransfer.files[0]);
  });
}
