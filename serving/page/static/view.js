// A model's result for a photograph: the photograph with a map over it (the saliency, one head's, or
// where one patch looks), the labels, and the maps of every head.

import { clearProblem, run, showProblem } from "./requests.js";
import { bytes, largest, paint } from "./maps.js";

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const SCALE = Uint8Array.from({ length: 256 }, (_, value) => value);

const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

export class View {
  // `slot` names the view in `run`; `onPoint` is told of every patch that is pointed at here.
  constructor(slot, onPoint) {
    this.slot = slot;
    this.onPoint = onPoint;
    this.root = document.getElementById("view").content.firstElementChild.cloneNode(true);
    this.clear();
    const stage = this.part("stage");
    stage.addEventListener("keydown", (event) => this.walk(event));
    stage.addEventListener("pointermove", (event) => this.result && this.point(this.patchUnder(event)));
    stage.addEventListener("pointerleave", () => this.point(this.pinned));
    stage.addEventListener("pointerdown", (event) => {
      if (this.result) this.point((this.pinned = this.patchUnder(event)));
    });
    this.part("opacity").addEventListener("input", () => this.result && this.draw());
    for (const name of ["block", "head"]) {
      this.part(name).addEventListener("change", () => {
        if (!this.patch) return;
        this.pairs = null;
        this.draw();
        this.loadPairs();
      });
    }
  }

  part(name) {
    return this.root.getElementsByClassName(name)[0];
  }

  clear() {
    this.result = null;   // the result for a photograph; see `show`
    this.pressed = null;  // the head whose map is over the photograph, as {button, values, block, head}
    this.patch = null;    // the patch under the pointer, as {row, column}
    this.pinned = null;   // the patch that was clicked or reached by keys; it stays
    this.pairs = null;    // self-attention of a block, as {key, values}; values is null while loading
    this.root.remove();
  }

  name(text) {
    this.part("title").textContent = text;
  }

  // `answer` is that of /explain for a file; `pathOf` makes the path for a block and a head of it. The
  // view's root can be shown then. Returns whether it is still to be, by `isWanted`.
  async show(answer, pathOf, file, isWanted) {
    const { png, width, height, left, top, size } = answer.photograph;
    const image = new Image();
    image.src = png;
    await image.decode();
    if (!isWanted()) return false;
    const picture = this.part("picture");
    picture.width = width;
    picture.height = height;
    picture.getContext("2d").drawImage(image, 0, 0);
    this.part("stage").style.setProperty("--ratio", width / height);
    place(this.part("overlay"), { left, top, width: size, height: size }, { width, height });
    this.clear();
    this.result = { ...answer, saliency: bytes(answer.saliency), pathOf, file };
    this.part("file").textContent = file.name;
    this.part("warning").hidden = answer.warning === null;
    this.part("warning").textContent = `This model is ${answer.warning}.`;
    paint(this.part("colours"), SCALE, 256);
    this.showBest(answer.best);
    this.showHeads(answer.blocks, answer.grid);
    this.choose("block", answer.self_attention_blocks, (number) => [`self-attention block ${number}`, number]);
    this.choose("head", answer.blocks[0].length + 1, (number) =>
      number ? [`head ${number - 1}`, number - 1] : ["mean of all heads", "mean"]);
    this.draw();
    return true;
  }

  showBest(best) {
    for (const name of ["top", "best", "axis"]) this.part(name).hidden = best === null;
    this.part("no-classes").hidden = best !== null;
    this.part("best").replaceChildren(...(best ?? []).map(({ label, probability, text }) => {
      const item = make("li");
      const name = make("div", { className: "name" });
      name.append(make("span", { textContent: label }), make("span", { textContent: text }));
      const bar = make("div", { className: "bar" });
      bar.setAttribute("aria-hidden", "true");
      bar.append(make("div"));
      bar.firstChild.style.width = `${100 * probability}%`;
      item.append(name, bar);
      return item;
    }));
  }

  choose(name, count, optionOf) {
    const select = this.part(name);
    const chosen = select.value;
    const options = Array.from({ length: count }, (_, number) => new Option(...optionOf(number)));
    select.replaceChildren(...options);
    if (options.some((option) => option.value === chosen)) select.value = chosen;
  }

  showHeads(blocks, grid) {
    this.part("blocks").replaceChildren(...blocks.flatMap((heads, block) => {
      const title = make("h4", { textContent: `Class-attention block ${block}` });
      const row = make("div", { className: "thumbnails" });
      row.append(...heads.map(({ map, most }, head) => {
        const values = bytes(map);
        const button = make("button", { type: "button" });
        const canvas = make("canvas");
        canvas.setAttribute("aria-hidden", "true");
        paint(canvas, values, grid);
        button.append(canvas, make("span", { textContent: `head ${head}, to ${most}` }));
        button.setAttribute("aria-label", `Class-attention block ${block}, head ${head}, up to ${most}`);
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => this.press({ button, values, block, head }));
        return button;
      }));
      return [title, row];
    }));
  }

  press(head) {
    this.pressed?.button.setAttribute("aria-pressed", "false");
    this.pressed = this.pressed?.button === head.button ? null : head;
    this.pressed?.button.setAttribute("aria-pressed", "true");
    this.draw();
  }

  draw() {
    const overlay = this.part("overlay");
    const { grid, photograph } = this.result;
    overlay.style.opacity = this.part("opacity").value / 100;
    this.drawPatch(grid, photograph);
    const values = this.patch && this.pairs?.values;
    if (values) {
      const { row, column } = this.patch;
      const index = row * grid + column;
      const map = values.subarray(index * grid * grid, (index + 1) * grid * grid);
      paint(overlay, map, grid);
      const most = largest(map);
      const [block, head] = ["block", "head"].map((name) => this.part(name).selectedOptions[0].text);
      this.say(`The patch in row ${row}, column ${column} looks most at row ` +
        `${Math.floor(most / grid)}, column ${most % grid} (${block}, ${head}).`);
    } else if (this.pressed) {
      paint(overlay, this.pressed.values, grid);
      this.say(`Class-attention block ${this.pressed.block}, head ${this.pressed.head}.`);
    } else {
      paint(overlay, this.result.saliency, photograph.size);
      this.say("Saliency: the mean of the heads of class-attention block 0.");
    }
  }

  drawPatch(grid, photograph) {
    const frame = this.part("patch");
    frame.hidden = !this.patch;
    if (!this.patch) return;
    const side = photograph.size / grid;
    const left = photograph.left + this.patch.column * side;
    const top = photograph.top + this.patch.row * side;
    place(frame, { left, top, width: side, height: side }, photograph);
  }

  say(text) {
    const shown = this.part("shown");
    if (shown.textContent !== text) shown.textContent = text;
  }

  // What is pointed at here.
  point(patch) {
    this.pointAt(patch);
    this.onPoint(patch);
  }

  // What is pointed at here, or in another view with as many patches.
  pointAt(next) {
    if (!this.result || (this.patch?.row === next?.row && this.patch?.column === next?.column)) return;
    this.patch = next;
    this.draw();
    if (this.patch) this.loadPairs();
  }

  async loadPairs() {
    const [block, head] = ["block", "head"].map((name) => this.part(name).value);
    const key = `${block} ${head}`;
    if (this.pairs?.key === key) return;
    const mine = (this.pairs = { key, values: null });
    try {
      const path = this.result.pathOf({ block, head });
      const answer = await run(this.slot, `Running self-attention block ${block}`, path, this.result.file);
      mine.values = bytes(answer.map);
      if (this.pairs !== mine) return;
      clearProblem();
      this.draw();
    } catch (error) {
      if (this.pairs !== mine) return;
      this.pairs = null;
      showProblem(error);
    }
  }

  patchUnder(event) {
    const box = this.part("overlay").getBoundingClientRect();
    const cell = (from, length) => Math.floor((from / length) * this.result.grid);
    const row = cell(event.clientY - box.top, box.height);
    const column = cell(event.clientX - box.left, box.width);
    const inside = [row, column].every((number) => number >= 0 && number < this.result.grid);
    return inside ? { row, column } : null;
  }

  walk(event) {
    if (!this.result) return;
    const step = STEPS[event.key];
    if (event.key === "Escape") {
      this.pinned = null;
    } else if (step) {
      event.preventDefault();
      const middle = Math.floor(this.result.grid / 2);
      const within = (number) => Math.min(Math.max(number, 0), this.result.grid - 1);
      const from = this.pinned ?? this.patch;
      this.pinned = from
        ? { row: within(from.row + step[0]), column: within(from.column + step[1]) }
        : { row: middle, column: middle };
    } else {
      return;
    }
    this.point(this.pinned);
  }
}

function place(part, { left, top, width, height }, whole) {
  Object.assign(part.style, {
    left: `${(100 * left) / whole.width}%`,
    top: `${(100 * top) / whole.height}%`,
    width: `${(100 * width) / whole.width}%`,
    height: `${(100 * height) / whole.height}%`,
  });
}
