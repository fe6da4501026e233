/** Weights beside their sliders, and a LoRA file of someone else. */
import { ask, tell } from "./request.js";

for (const slider of document.querySelectorAll("#merge input[type=range]")) {
  slider.addEventListener("input", () => { slider.nextElementSibling.value = slider.value; });
}
document.getElementById("guest").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  try {
    await ask(`${event.target.dataset.url}?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    location.reload();
  } catch (error) {
    tell(error.message);
  }
});
