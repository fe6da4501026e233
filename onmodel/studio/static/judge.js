/** One blind pair after the other: buttons and keys answer it; the end brings the names. */
const $ = (id) => document.getElementById(id);
const session = $("session");
const keys = {ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", u: "undo", U: "undo", Backspace: "undo"};
const loaded = new Map();  // pair -> both pictures, so that neither is seen before the other
let state = null, busy = true;

/** The answer's JSON; that of a refused change has the state of now. */
async function ask(path, fields) {
  let reply;
  try {
    reply = await fetch(`${session.dataset.address}/${path}`, {
      headers: { Accept: "application/json" },
      ...(fields && { method: "POST", body: new URLSearchParams(fields) }),
    });
  } catch {
    throw new Error("No answer from onmodel. Start it again and open the address that it prints. Every saved answer is kept.");
  }
  const told = await reply.json();
  if (!reply.ok && !("pair" in told)) throw new Error(told.error);
  return told;
}

async function load(image) {
  try {
    await image.decode();
  } catch {
    await ask(image.dataset.path); // the reason, as JSON
  }
}

function complain(error) {
  $("trouble").textContent = error.message;
  $("trouble").hidden = false;
}

function pictures(pair) {
  if (!loaded.has(pair)) {
    const both = Promise.all(["left", "right"].map(async (side) => {
      const image = new Image(session.dataset.width, session.dataset.height);
      image.alt = side === "left" ? "Picture A" : "Picture B";
      image.dataset.path = `picture/${pair}/${side}`;
      image.src = `${session.dataset.address}/${image.dataset.path}`;
      await load(image);
      return [side, image];
    }));
    both.catch(() => loaded.delete(pair));
    loaded.set(pair, both);
  }
  return loaded.get(pair);
}

async function show(next) {
  const complete = next.prompt === null;
  const both = complete ? [] : await pictures(next.pair);
  state = next;
  for (const [side, image] of both) {
    $(side).querySelector("img")?.remove();
    $(side).classList.remove("chosen");
    $(side).append(image);
  }
  $("prompt").textContent = next.prompt ?? "";
  $("bar").max = next.of;
  $("bar").value = next.pair;
  $("count").textContent = `${next.pair} of ${next.of}`;
  $("pair").hidden = $("prompt").hidden = complete;
  $("done").hidden = !complete;
  $("end").textContent = complete ? $("end").dataset.done : $("end").dataset.here;
  $("end").classList.toggle("main", complete);
  for (const button of document.querySelectorAll(".vote")) button.hidden = complete;
  document.querySelector("[data-do=undo]").disabled = $("end").disabled = next.pair === 0;
  if (complete) $("end").focus();
  loaded.delete(next.pair - 2);
  if (next.pair + 1 < next.of) pictures(next.pair + 1).catch(() => {});
}

async function act(what) {
  const complete = state.prompt === null;
  if (busy || (complete && what in {left: 1, right: 1, tie: 1}) || (what === "undo" && state.pair === 0)) return;
  if (what === "end" && !complete && !confirm(`${state.pair} / ${state.of}. ${$("end").dataset.confirm}`)) return;
  busy = true;
  $("trouble").hidden = true;
  if (what === "left" || what === "right") $(what).classList.add("chosen");
  if (what === "end") $("end").textContent = $("end").dataset.working;
  try {
    const [path, fields] = what === "end" ? ["end", {}] : what === "undo" ? ["undo", { pair: state.pair - 1 }]
      : ["answer", { pair: state.pair, answer: what }];
    const told = await ask(path, fields);
    if ("result" in told) {
      $("result").innerHTML = told.result;
      $("result").hidden = false;
      session.hidden = true;
      $("result").focus();
      return;
    }
    await show(told);
  } catch (error) {
    for (const side of ["left", "right"]) $(side).classList.remove("chosen");
    if (what === "end") $("end").textContent = $("end").dataset.here;
    complain(error);
  } finally {
    busy = false;
  }
}

function pressed(event) {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  if (!$("result").hidden) return;
  event.preventDefault();
  act(keys[event.key]);
}

if (session) {
  document.addEventListener("keydown", pressed);
  for (const side of ["left", "right"]) $(side).addEventListener("click", () => act(side));
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => act(button.dataset.do));
  ask("state").then(show).then(() => { busy = false; }, complain);
}
