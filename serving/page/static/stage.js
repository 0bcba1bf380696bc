// The photograph with a map over it: the saliency, one head's, or where one patch looks.

import { clearProblem, run, showProblem } from "./requests.js";
import { bytes, largest, paint } from "./maps.js";

const element = (id) => document.getElementById(id);

let result = null;   // the result for a photograph; see showResult
let pressed = null;  // the head whose map is over the photograph, as {button, values, block, head}
let patch = null;    // the patch under the pointer, as {row, column}
let pinned = null;   // the patch that was clicked or reached by keys; it stays
let pairs = null;    // self-attention of a block, as {key, values}; values is null while loading

// `answer` is that of /explain for a file; `pathOf` makes the path for a block and a head of it.
export async function showResult(answer, pathOf, file) {
  const { png, width, height, left, top, size } = answer.photograph;
  const image = new Image();
  image.src = png;
  await image.decode();
  const picture = element("picture");
  picture.width = width;
  picture.height = height;
  picture.getContext("2d").drawImage(image, 0, 0);
  place(element("overlay"), { left, top, width: size, height: size }, { width, height });
  result = { ...answer, saliency: bytes(answer.saliency), pathOf, file };
  pressed = patch = pinned = pairs = null;
  showHeads(answer.blocks, answer.grid);
  choose("block", answer.self_attention_blocks, (number) => [`block ${number}`, number]);
  choose("head", answer.blocks[0].length + 1, (number) =>
    number ? [`head ${number - 1}`, number - 1] : ["mean of all heads", "mean"]);
  draw();
}

export function clearResult() {
  result = pressed = patch = pinned = pairs = null;
}

export const hasResult = () => result !== null;

function place(part, { left, top, width, height }, whole) {
  Object.assign(part.style, {
    left: `${(100 * left) / whole.width}%`,
    top: `${(100 * top) / whole.height}%`,
    width: `${(100 * width) / whole.width}%`,
    height: `${(100 * height) / whole.height}%`,
  });
}

function choose(id, count, optionOf) {
  const select = element(id);
  const chosen = select.value;
  const options = Array.from({ length: count }, (_, number) => new Option(...optionOf(number)));
  select.replaceChildren(...options);
  if (options.some((option) => option.value === chosen)) select.value = chosen;
}

function showHeads(blocks, grid) {
  element("blocks").replaceChildren(...blocks.flatMap((heads, block) => {
    const title = Object.assign(document.createElement("h3"), { textContent: `Block ${block}` });
    const row = Object.assign(document.createElement("div"), { className: "thumbnails" });
    row.append(...heads.map(({ map, most }, head) => {
      const values = bytes(map);
      const button = Object.assign(document.createElement("button"), { type: "button" });
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      paint(canvas, values, grid);
      const name = Object.assign(document.createElement("span"), {
        textContent: `head ${head}, to ${most}`,
      });
      button.append(canvas, name);
      button.setAttribute("aria-label", `Block ${block}, head ${head}, up to ${most}`);
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => press({ button, values, block, head }));
      return button;
    }));
    return [title, row];
  }));
}

function press(head) {
  pressed?.button.setAttribute("aria-pressed", "false");
  pressed = pressed?.button === head.button ? null : head;
  pressed?.button.setAttribute("aria-pressed", "true");
  draw();
}

function draw() {
  const overlay = element("overlay");
  const { grid, photograph } = result;
  overlay.style.opacity = element("opacity").value / 100;
  drawPatch(grid, photograph);
  const values = patch && pairs?.values;
  if (values) {
    const index = patch.row * grid + patch.column;
    const row = values.subarray(index * grid * grid, (index + 1) * grid * grid);
    paint(overlay, row, grid);
    const most = largest(row);
    const head = element("head").selectedOptions[0].text;
    say(`The patch in row ${patch.row}, column ${patch.column} looks most at row ` +
      `${Math.floor(most / grid)}, column ${most % grid} (block ${element("block").value}, ${head}).`);
  } else if (pressed) {
    paint(overlay, pressed.values, grid);
    say(`Class attention of block ${pressed.block}, head ${pressed.head}.`);
  } else {
    paint(overlay, result.saliency, photograph.size);
    say("Saliency: the mean of the heads of the first class-attention block.");
  }
}

function drawPatch(grid, photograph) {
  const frame = element("patch");
  frame.hidden = !patch;
  if (!patch) return;
  const side = photograph.size / grid;
  const left = photograph.left + patch.column * side;
  const top = photograph.top + patch.row * side;
  place(frame, { left, top, width: side, height: side }, photograph);
}

function say(text) {
  if (element("shown").textContent !== text) element("shown").textContent = text;
}

function pointAt(next) {
  if (!result || (patch?.row === next?.row && patch?.column === next?.column)) return;
  patch = next;
  draw();
  if (patch) loadPairs();
}

async function loadPairs() {
  const block = element("block").value;
  const head = element("head").value;
  const key = `${block} ${head}`;
  if (pairs?.key === key) return;
  const mine = (pairs = { key, values: null });
  try {
    const path = result.pathOf({ block, head });
    const answer = await run(`Running self-attention block ${block}`, path, result.file);
    mine.values = bytes(answer.map);
    if (pairs !== mine) return;
    clearProblem();
    draw();
  } catch (error) {
    if (pairs !== mine) return;
    pairs = null;
    showProblem(error);
  }
}

function patchUnder(event) {
  const box = element("overlay").getBoundingClientRect();
  const place = (from, length) => Math.floor((from / length) * result.grid);
  const row = place(event.clientY - box.top, box.height);
  const column = place(event.clientX - box.left, box.width);
  const inside = [row, column].every((number) => number >= 0 && number < result.grid);
  return inside ? { row, column } : null;
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function walk(event) {
  if (!result) return;
  const step = STEPS[event.key];
  if (event.key === "Escape") {
    pinned = null;
  } else if (step) {
    event.preventDefault();
    const middle = Math.floor(result.grid / 2);
    const within = (number) => Math.min(Math.max(number, 0), result.grid - 1);
    const from = pinned ?? patch;
    pinned = from
      ? { row: within(from.row + step[0]), column: within(from.column + step[1]) }
      : { row: middle, column: middle };
  } else {
    return;
  }
  pointAt(pinned);
}

const stage = element("stage");
stage.addEventListener("keydown", walk);
stage.addEventListener("pointermove", (event) => result && pointAt(patchUnder(event)));
stage.addEventListener("pointerleave", () => pointAt(pinned));
stage.addEventListener("pointerdown", (event) => {
  if (result) pointAt((pinned = patchUnder(event)));
});
element("opacity").addEventListener("input", () => result && draw());
for (const id of ["block", "head"]) {
  element(id).addEventListener("change", () => {
    if (!patch) return;
    pairs = null;
    draw();
    loadPairs();
  });
}
