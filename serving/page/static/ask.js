// Asking this page's own server, and saying what is going on meanwhile.

const element = (id) => document.getElementById(id);

export class Refused extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export async function ask(path, options = {}) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("page", "The program behind this page has ended; start it again.");
  }
  const answer = await reply.json().catch(() => ({}));
  if (answer.error) throw new Refused(answer.error.kind, answer.error.message);
  if (!reply.ok) throw new Refused("page", `The program behind this page failed (${reply.status}).`);
  return answer;
}

// What is wrong, in the one place for it; its kind tells when it is over.
export function tell(error) {
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

// One thing runs at a time: what is asked for later takes the place of what runs.
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
    return await ask(path, { method: "POST", body, signal: mine.signal });
  } finally {
    clearInterval(timer);
    if (running === mine) {
      running = null;
      element("busy-bar").hidden = true;
      element("busy-text").textContent = element("busy-seconds").textContent = "";
    }
  }
}
