/** Two pictures of one prompt over each other, with a slider between them. */
const zoom = document.getElementById("zoom");
const left = document.getElementById("left");
const right = document.getElementById("right");
const slide = document.getElementById("slide");

function cut() { right.style.clipPath = `inset(0 0 0 ${slide.value}%)`; }

/** Show a picture against its neighbour to the left, or to the right for the first column. */
function enlarge(button) {
  const pictures = [...button.closest("tr").querySelectorAll("button.picture")];
  const names = [...document.querySelectorAll(".compare thead th")].slice(1).map((cell) => cell.textContent);
  const at = pictures.indexOf(button);
  const other = pictures.length > 1 ? (at ? at - 1 : 1) : at;
  const [a, b] = [Math.min(at, other), Math.max(at, other)];
  left.src = pictures[a].firstElementChild.src;
  right.src = pictures[b].firstElementChild.src;
  document.getElementById("pair").textContent = `${names[pictures[a].dataset.at]} | ${names[pictures[b].dataset.at]}`;
  document.getElementById("prompt").textContent = button.dataset.prompt;
  cut();
  zoom.showModal();
}

if (zoom) {
  for (const button of document.querySelectorAll("button.picture")) button.addEventListener("click", () => enlarge(button));
  slide.addEventListener("input", cut);
  document.getElementById("close").addEventListener("click", () => zoom.close());
}
