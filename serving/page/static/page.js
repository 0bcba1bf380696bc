// The server's models, the photograph, and the labels; the maps are in stage.js.

import { clearProblem, request, run, showProblem } from "./requests.js";
import { paint, setColours } from "./maps.js";
import { clearResult, hasResult, showResult } from "./stage.js";

const element = (id) => document.getElementById(id);
const POLL_MILLISECONDS = 2000;

let models = "";    // the last list of models as JSON, to notice changes
let file = null;    // the photograph
let again = false;  // whether to explain the photograph when the server is back
let latest = 0;     // number of the latest explanation; answers to earlier ones are dropped

// The server and its models.

async function watch() {
  try {
    if (showModels(await request("/models"))) {
      clearProblem(["away", "loading", "page"]);
      if (again) explainPhoto();
    } else {
      showProblem({ kind: "loading", message: "No version is ready: all are loading or have failed." });
    }
  } catch (error) {
    element("server").textContent = "No model is available now.";
    element("model").disabled = true;
    models = "";
    showProblem(error);
    again ||= file !== null && !hasResult();
  }
  setTimeout(watch, POLL_MILLISECONDS);
}

// Returns whether a version is available.
function showModels(answer) {
  const current = JSON.stringify(answer);
  const select = element("model");
  if (current === models) return !select.disabled;
  models = current;
  const chosen = select.value;
  select.replaceChildren(...answer.models.map((model) => {
    const group = document.createElement("optgroup");
    group.label = model.name;
    group.append(...model.versions.map(({ version, state, error }) => {
      const text = `${model.name} version ${version}`;
      const available = state === "AVAILABLE";
      const why = error ? "failed to load" : state.toLowerCase();
      const option = new Option(available ? text : `${text} (${why})`, `${model.name}/${version}`);
      option.disabled = !available;
      option.title = error;
      return option;
    }));
    return group;
  }));
  const free = [...select.options].filter((option) => !option.disabled);
  select.value = (free.find((option) => option.value === chosen) ?? free[0])?.value ?? "";
  select.disabled = !free.length;
  element("server").textContent =
    `Model server ${answer.server}: ${answer.models.length} ` +
    (answer.models.length === 1 ? "model" : "models");
  // The version of the shown result is gone.
  if (file && chosen && select.value !== chosen) explainPhoto();
  return free.length > 0;
}

function chosenModel() {
  const [model, version] = element("model").value.split("/");
  return { model, version };
}

// One photograph.

async function explainPhoto() {
  if (!file) return;
  const mine = ++latest;
  again = false;
  clearResult();
  element("results").hidden = true;
  element("warning").hidden = true;
  if (!element("model").value) {
    again = true;
    return;
  }
  clearProblem();
  const named = element("model").value.replace("/", " version ");
  const model = chosenModel();
  const pathOf = (more) => `/self_attention?${new URLSearchParams({ ...model, ...more })}`;
  const photo = file;
  try {
    const path = `/explain?${new URLSearchParams(model)}`;
    const answer = await run(`Running ${named} on ${photo.name}`, path, photo);
    if (mine !== latest) return;
    again = false;
    await showResult(answer, pathOf, photo);
    showBest(answer.best);
    element("warning").hidden = answer.warning === null;
    element("warning").textContent = `This model is ${answer.warning}.`;
    element("results").hidden = false;
  } catch (error) {
    if (mine !== latest) return;
    showProblem(error);
    again = ["away", "loading"].includes(error.kind);
  }
}

function showBest(best) {
  element("no-classes").hidden = best !== null;
  element("best").replaceChildren(...(best ?? []).map(({ label, probability, text }) => {
    const item = document.createElement("li");
    const name = Object.assign(document.createElement("div"), { className: "name" });
    name.append(
      Object.assign(document.createElement("span"), { textContent: label }),
      Object.assign(document.createElement("span"), { textContent: text }),
    );
    const bar = Object.assign(document.createElement("div"), { className: "bar" });
    bar.setAttribute("aria-hidden", "true");
    bar.append(document.createElement("div"));
    bar.firstChild.style.width = `${(100 * probability) / best[0].probability}%`;
    item.append(name, bar);
    return item;
  }));
}

function take(files) {
  if (!files.length) return;
  file = files[0];
  explainPhoto();
}

element("choices").addEventListener("submit", (event) => event.preventDefault());
element("photo").addEventListener("change", (event) => take(event.target.files));
element("model").addEventListener("change", explainPhoto);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  take(event.dataTransfer.files);
});

try {
  setColours(Uint8Array.from(await request("/colours")));
  paint(element("scale"), Uint8Array.from({ length: 256 }, (_, value) => value), 256);
} catch (error) {
  showProblem(error);
}
watch();
