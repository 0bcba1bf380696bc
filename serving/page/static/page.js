// The server's models, the photograph, and the views of one model or of two, side by side.

import { bytes, setColours } from "./maps.js";
import { clearProblem, request, run, showProblem } from "./requests.js";
import { View } from "./view.js";

const element = (id) => document.getElementById(id);
const POLL_MILLISECONDS = 2000;

let models = "";    // the last list of models as JSON, to notice changes
let file = null;    // the photograph
let again = false;  // whether to explain the photograph when the server is back

// A view for each select: that of the model, and that of the one beside it.
const sides = ["model", "other"].map((id, index) => {
  const follow = (patch) => {
    const [here, there] = [sides[index].view, sides[1 - index].view];
    if (there.result?.grid === here.result?.grid) there.pointAt(patch);
  };
  return { select: element(id), view: new View(id, follow), latest: 0 };
});

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
    for (const { select } of sides) select.disabled = true;
    models = "";
    showProblem(error);
    again ||= file !== null && !sides[0].view.result;
  }
  setTimeout(watch, POLL_MILLISECONDS);
}

const textOf = (name, { version, labels }) => [`${name} version ${version}`, ...labels].join(", ");

function optionOf(name, version) {
  const text = textOf(name, version);
  const available = version.state === "AVAILABLE";
  const why = version.error ? "failed to load" : version.state.toLowerCase();
  const option = new Option(available ? text : `${text} (${why})`, `${name}/${version.version}`);
  option.disabled = !available;
  option.title = version.error;
  option.dataset.text = text;
  return option;
}

// Returns whether a version is available.
function showModels(answer) {
  const current = JSON.stringify(answer);
  const [first, second] = sides;
  if (current === models) return !first.select.disabled;
  models = current;
  const before = sides.map(({ select }) => select.value);
  for (const { select } of sides) {
    select.replaceChildren(...answer.models.map((model) => {
      const group = document.createElement("optgroup");
      group.label = model.name;
      group.append(...model.versions.map((version) => optionOf(model.name, version)));
      return group;
    }));
  }
  second.select.prepend(new Option("no other", ""));
  const free = [...first.select.options].filter((option) => !option.disabled);
  const known = (value) => free.some((option) => option.value === value);
  first.select.value = known(before[0]) ? before[0] : free[0]?.value ?? "";
  second.select.value = known(before[1]) ? before[1] : "";
  for (const { select } of sides) select.disabled = !free.length;
  element("server").textContent =
    `Model server ${answer.server}: ${answer.models.length} ` +
    (answer.models.length === 1 ? "model" : "models");
  // The version of a shown result is gone, or has other labels.
  const gone = sides.filter(({ select }, index) => before[index] && select.value !== before[index]);
  if (file && gone.length) explainPhoto(gone);
  for (const side of sides) side.view.name(chosenText(side));
  return free.length > 0;
}

const chosenText = ({ select }) => select.selectedOptions[0]?.dataset.text ?? "";

// One photograph.

async function explainPhoto(which = sides) {
  if (!file) return;
  again = false;
  const asked = which.map((side) => [side, ++side.latest]);
  for (const { view } of which) view.clear();
  if (!element("model").value) {
    again = true;
    return;
  }
  clearProblem();
  // One after the other, as each takes all processors.
  for (const [side, mine] of asked) {
    if (side.select.value && side.latest === mine && !(await explain(side, mine))) return;
  }
}

// Returns whether the next one may be run.
async function explain(side, mine) {
  const [model, version] = side.select.value.split("/");
  const pathOf = (more) => `/self_attention?${new URLSearchParams({ model, version, ...more })}`;
  const photo = file;
  try {
    const path = `/explain?${new URLSearchParams({ model, version })}`;
    const text = `Running ${model} version ${version} on ${photo.name}`;
    const answer = await run(side.select.id, text, path, photo);
    if (mine !== side.latest) return true;
    side.view.name(chosenText(side));
    if (!(await side.view.show(answer, pathOf, photo, () => mine === side.latest))) return true;
    element("results").replaceChildren(
      ...sides.filter(({ view }) => view.result).map(({ view }) => view.root),
    );
  } catch (error) {
    if (mine !== side.latest) return true;
    showProblem(error);
    again = ["away", "loading"].includes(error.kind);
    return false;
  }
  return true;
}

function take(files) {
  if (!files.length) return;
  file = files[0];
  // A file that was dropped is named as one that was chosen.
  const transfer = new DataTransfer();
  transfer.items.add(file);
  element("photo").files = transfer.files;
  explainPhoto();
}

async function takeSample() {
  const { name, content } = await request("/sample");
  if (!file) take([new File([bytes(content)], name)]);
}

element("choices").addEventListener("submit", (event) => event.preventDefault());
element("photo").addEventListener("change", (event) => take(event.target.files));
for (const side of sides) {
  side.select.addEventListener("change", () => explainPhoto([side]));
}
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
  await takeSample();
} catch (error) {
  showProblem(error);
}
watch();
