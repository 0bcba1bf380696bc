// Requests to the server of this page, with their progress and their errors.

const element = (id) => document.getElementById(id);

export class RequestError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export async function request(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new RequestError("page", "The program behind this page has ended; start it again.");
  }
  const answer = await reply.json().catch(() => ({}));
  if (answer.error) throw new RequestError(answer.error.kind, answer.error.message);
  if (!reply.ok) throw new RequestError("page", `The program behind this page failed (${reply.status}).`);
  return answer;
}

// The kind of a problem is kept, so that a later success can clear problems of its kind.
export function showProblem(error) {
  if (error.name === "AbortError") return;
  const place = element("problem");
  const text = error.kind ? error.message : `The page failed: ${error.message}`;
  place.dataset.kind = error.kind ?? "page";
  if (place.textContent !== text) place.textContent = text;
  place.hidden = false;
}

export function clearProblem(kinds = null) {
  const place = element("problem");
  if (kinds && !kinds.includes(place.dataset.kind)) return;
  place.textContent = "";
  place.hidden = true;
}

// A view runs one request at a time: a later one cancels its running one. Slot -> its request.
const running = new Map();

export async function run(slot, text, path, body) {
  running.get(slot)?.abort.abort();
  const mine = { abort: new AbortController(), text, start: performance.now() };
  running.set(slot, mine);
  showRunning();
  const timer = setInterval(showRunning, 1000);
  try {
    return await request(path, { method: "POST", body, signal: mine.abort.signal });
  } finally {
    clearInterval(timer);
    if (running.get(slot) === mine) running.delete(slot);
    showRunning();
  }
}

function showRunning() {
  const all = [...running.values()];
  const passed = all.length
    ? Math.floor((performance.now() - Math.min(...all.map(({ start }) => start))) / 1000)
    : 0;
  element("busy-bar").hidden = !all.length;
  element("busy-text").textContent = all.map(({ text }) => text).join("; ");
  element("busy-seconds").textContent = passed ? `${passed} s` : "";
}
