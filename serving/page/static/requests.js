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

// One model runs at a time: a later request cancels the running one.
let running = null;

export async function run(text, path, body) {
  running?.abort();
  const mine = (running = new AbortController());
  const start = performance.now();
  const seconds = () => {
    const passed = Math.floor((performance.now() - start) / 1000);
    element("busy-seconds").textContent = passed ? `${passed} s` : "";
  };
  element("busy-bar").hidden = false;
  element("busy-text").textContent = text;
  seconds();
  const timer = setInterval(seconds, 1000);
  try {
    return await request(path, { method: "POST", body, signal: mine.signal });
  } finally {
    clearInterval(timer);
    if (running === mine) {
      running = null;
      element("busy-bar").hidden = true;
      element("busy-text").textContent = element("busy-seconds").textContent = "";
    }
  }
}
