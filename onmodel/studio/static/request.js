/** Requests of scripts to the studio: JSON back, or the one line that says what is wrong. */

/** Send a request and return the answer's JSON. Throws an Error whose message is for the user. */
export async function ask(url, options = {}) {
  const answer = await fetch(url, { headers: { Accept: "application/json", ...options.headers }, ...options });
  const text = answer.status === 200 && answer.headers.get("content-length") === "0" ? "{}" : null;
  const value = text ? {} : await answer.json().catch(() => ({ error: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw new Error(value.error);
  return value;
}

/** Send a JSON body. */
export function post(url, value) {
  return ask(url, {
    method: "POST",
    body: JSON.stringify(value),
    headers: { Accept: "application/json", "Content-Type": "application/json" },
  });
}

/** Show one line at the top of the page; "" clears it. */
export function tell(sentence) {
  const place = document.getElementById("mistake");
  place.replaceChildren();
  if (!sentence) return;
  const line = document.createElement("p");
  line.className = "mistake";
  line.textContent = sentence;
  place.append(line);
}
