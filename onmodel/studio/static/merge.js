/** Weights beside their sliders. */
for (const slider of document.querySelectorAll("#merge input[type=range]")) {
  slider.addEventListener("input", () => { slider.nextElementSibling.value = slider.value; });
}
