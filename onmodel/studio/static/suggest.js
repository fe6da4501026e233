/** A list of tags under a field while a tag is typed: arrows choose, Enter takes, Escape closes. */
import { ask } from "./request.js";

const PAUSE = 100; // milliseconds after the last key

/** Suggest tags in `field`, whose tags stand between the characters of `separators`. */
export function suggest(field, url, label, separators = ",") {
  const list = document.createElement("ul");
  list.id = `options-${field.form.id}-${field.name}`;
  list.className = "options";
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", label);
  list.hidden = true;
  (field.closest("label") ?? field).after(list);
  field.autocomplete = "off";
  field.setAttribute("aria-autocomplete", "list");
  field.setAttribute("aria-controls", list.id);
  if (field.tagName === "INPUT") field.setAttribute("role", "combobox");
  let chosen = -1;
  let waiting = 0;
  let asked = 0; // only the answer to the last question is shown
  close();

  function close() {
    list.hidden = true;
    list.replaceChildren();
    chosen = -1;
    asked++;
    clearTimeout(waiting);
    field.removeAttribute("aria-activedescendant");
    if (field.tagName === "INPUT") field.setAttribute("aria-expanded", "false");
  }

  /** Where the tag at the caret begins and ends, without the spaces around it. */
  function bounds() {
    const isSeparator = (i) => separators.includes(field.value[i]) || field.value[i] === "\n";
    let from = field.selectionStart;
    let to = from;
    while (from > 0 && !isSeparator(from - 1)) from--;
    while (to < field.value.length && !isSeparator(to)) to++;
    while (from < to && field.value[from] === " ") from++;
    return [from, to];
  }

  async function look() {
    const mine = ++asked;
    const [from] = bounds();
    const word = field.value.slice(from, field.selectionStart).trim();
    const found = word ? await ask(`${url}?${new URLSearchParams({ word })}`) : [];
    if (mine !== asked) return;
    if (!found.length) { close(); return; }
    list.replaceChildren(...found.map((option, i) => {
      const item = document.createElement("li");
      const count = document.createElement("small");
      item.id = `${list.id}-${i}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      item.dataset.tag = option.tag;
      item.textContent = option.alias ? `${option.alias} → ${option.tag}` : option.tag;
      count.textContent = option.pictures.toLocaleString("en");
      item.append(count);
      item.addEventListener("mousedown", (event) => { event.preventDefault(); take(item); });
      return item;
    }));
    chosen = -1;
    list.hidden = false;
    if (field.tagName === "INPUT") field.setAttribute("aria-expanded", "true");
  }

  function choose(place) {
    list.children[chosen]?.setAttribute("aria-selected", "false");
    chosen = (place + list.children.length) % list.children.length;
    list.children[chosen].setAttribute("aria-selected", "true");
    field.setAttribute("aria-activedescendant", list.children[chosen].id);
  }

  function take(item) {
    field.setRangeText(item.dataset.tag, ...bounds(), "end");
    close();
  }

  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => look().catch(close), PAUSE);
  });
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    if (event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen < 0 ? -1 : chosen - 1);
    else if (event.key === "Enter" && chosen >= 0) take(list.children[chosen]);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
  });
}
