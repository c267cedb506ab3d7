// The plane of two settings: a cell for what became of its runs, and beside it the curves of the cell at the pointer.

import { CellCurves } from "../cellcurves.js";
import { Key } from "../canvas.js";
import { CellPaint } from "../cellpaint.js";
import { LABEL_GAP, centres, edges, finder, layout } from "../cells.js";
import { element } from "../dom.js";
import { exact, fitting } from "../numbers.js";
import { GAP } from "../panel.js";
import { apart, clamp } from "../scales.js";
import { Timeline, VEILED } from "../timeline.js";

/** @typedef {import("../cells.js").PlaneData} PlaneData */
/** @typedef {import("../cells.js").Cell} Cell */

const MOVES = /** @type {Record<string, Cell>} */ ({
  ArrowUp: [1, 0],
  ArrowDown: [-1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
});

/**
 * The numbers of a frame: a row for each cell that has a value, with its curves at the step.
 * @param {PlaneData} panel
 * @param {number} frame
 * @param {number} step of the frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame, step) => {
  const find = finder(panel);
  const { rows, columns, kinds } = panel;
  const found = rows.labels.flatMap((row, r) =>
    columns.labels.flatMap((column, c) => {
      const value = find.value(frame, r, c);
      if (!Number.isFinite(value)) return [];
      return [
        [
          ...[row, column, kinds.length ? kinds[value] : value],
          ...(panel.agree ? [find.agree(frame, r, c) ?? NaN] : []),
          ...(panel.n ? [find.seeds(r, c)] : []),
          ...panel.lines.map((_, line) => find.at(r, c, line, step)),
          ...(panel.runs.length ? [panel.runs[r][c]] : []),
        ],
      ];
    }),
  );
  const names = [rows.name, columns.name, kinds.length ? "kind" : panel.unit || "value"];
  const more = [...(panel.agree ? ["seeds that agree"] : []), ...(panel.n ? ["seeds"] : []), ...panel.lines];
  return { columns: [...names, ...more, ...(panel.runs.length ? ["run"] : [])], rows: found };
};

/** @extends {Timeline<PlaneData>} */
export default class Plane extends Timeline {
  gutter = 0; // its axis does not begin where those of other timelines do
  at = /** @type {ReturnType<typeof layout> | null} */ (null);
  xs = /** @type {number[]} */ ([]); // the ends of the columns
  ys = /** @type {number[]} */ ([]); // and of the rows, from the lowest
  hovered = /** @type {Cell | null} */ (null);
  pressed = /** @type {Cell | null} */ (null); // whose curves were drawn when the pointer went down
  curves = /** @type {CellCurves | null} */ (null);
  drawn = /** @type {number | null} */ (null); // the frame of the cells on screen

  /**
   * @param {PlaneData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.find = finder(panel);
    this.paint = new CellPaint(this, this.find);
    this.kept = this.option("cell", null);
    this.first = this.find.first();
    this.curves = panel.curves ? new CellCurves(this, this.find) : null;
    this.colours = panel.kinds.length ? null : new Key(this.tools);
    this.kinds = panel.kinds.map((name) => this.key("kind", name, element("b", {}, "0")));
    this.lines = panel.lines.map((name) => this.key("line", name));
    this.keys = element("div", { class: "keys" }, ...this.kinds, ...this.lines);
    this.status = element("p", { class: "unseen", role: "status" });
    this.stage.before(...(this.kinds.length || this.lines.length ? [this.keys] : []), this.status);
    // A drag on the curves leaves the arrow keys to whatever had them.
    this.stage.addEventListener("mousedown", (event) => this.isAxis(...this.local(event)) && event.preventDefault());
    this.stage.addEventListener("pointerdown", () => (this.pressed = this.cell));
    this.stage.addEventListener("click", (event) => this.click(/** @type {PointerEvent} */ (event)));
    this.stage.addEventListener("pointerleave", () => {
      if (this.hovered) this.keep(this.hovered);
      this.hovered = null;
    });
  }

  /**
   * An entry of the legend.
   * @param {string} what
   * @param {string} name
   * @param {HTMLElement[]} more
   */
  key(what, name, ...more) {
    return element("span", { class: `key ${what}` }, element("i"), name, ...more);
  }

  /** The cell whose curves are drawn: the one at the pointer, the last one chosen, or the first one with a value. */
  get cell() {
    if (this.hovered) return this.hovered;
    const found = /^(\d+)-(\d+)$/.exec(String(this.kept.get()));
    if (!found) return this.first;
    const { rows, columns } = this.panel;
    const [row, column] = [Number(found[1]), Number(found[2])];
    return /** @type {Cell} */ (
      row < rows.labels.length && column < columns.labels.length ? [row, column] : this.first
    );
  }

  /** @param {Cell} cell */
  keep([row, column]) {
    const name = `${row}-${column}`;
    if (this.kept.get() !== name) this.kept.set(name);
  }

  /** Whether a drag may begin at a place: on the curves. @param {number} x @param {number} y */
  isAxis(x, y) {
    const { box } = this;
    return box !== null && x >= box.left - 8 && y >= box.top - 8 && y < box.bottom + 32;
  }

  /**
   * The cell at a place.
   * @param {number} x
   * @param {number} y
   * @returns {Cell | null}
   */
  hit(x, y) {
    const column = this.xs.findIndex((_, c) => x >= this.xs[c] && x < this.xs[c + 1]);
    const row = this.ys.findIndex((_, r) => y < this.ys[r] && y >= this.ys[r + 1]);
    return row < 0 || column < 0 ? null : [row, column];
  }

  /** @param {MouseEvent} event */
  hover(event) {
    if (!this.dragging) {
      const place = this.local(event);
      const hit = this.hit(...place);
      const isOther = hit && String(hit) !== String(this.cell);
      this.hovered = hit ?? this.hovered;
      const opens = hit && this.run(hit) && this.player.onAsk;
      this.stage.style.cursor = opens ? "pointer" : this.isAxis(...place) ? "" : "default";
      if (isOther) this.redraw();
    }
    super.hover(event);
  }

  /** @param {PointerEvent} event */
  click(event) {
    const hit = this.hit(...this.local(event));
    if (!hit) return;
    const isNew = String(hit) !== String(this.pressed);
    this.keep(hit);
    if (event.pointerType !== "touch" || !isNew) this.open(hit); // a first tap shows what a mouse shows by pointing
  }

  /** @param {Cell} cell */
  run([row, column]) {
    return this.panel.runs[row]?.[column] ?? "";
  }

  /**
   * Ask for the run of a cell.
   * @param {Cell} cell
   * @returns {boolean} whether there is one, and somebody to ask
   */
  open(cell) {
    const name = this.run(cell);
    if (!name || !this.player.onAsk) return false;
    this.player.onAsk(`open ${name}`);
    return true;
  }

  /**
   * Arrow keys go to the cell beside, Enter opens its run.
   * @param {string} key
   */
  press(key) {
    if (key === "Enter") return this.open(this.cell);
    const by = Object.hasOwn(MOVES, key) ? MOVES[key] : null;
    if (!by) return false;
    const { rows, columns } = this.panel;
    const [row, column] = this.cell.map((place, axis) => place + by[axis]);
    this.hovered = null;
    this.keep([clamp(row, 0, rows.labels.length - 1), clamp(column, 0, columns.labels.length - 1)]);
    this.status.textContent = this.said(this.cell);
    return true;
  }

  /** Draw another cell's curves, and its frame. */
  redraw() {
    if (!this.base) return;
    this.curves?.draw(this.base, this.cell, this.named(this.cell));
    this.drawn = null;
    this.player.draw();
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame, this.steps[frame]);
  }

  summary() {
    const { kinds } = this.panel;
    const counts = this.counts(this.player.index);
    const all = kinds.length ? kinds.map((name, k) => `${name} ${counts[k]}`).join(", ") : super.summary();
    const opens = this.panel.runs.length && this.player.onAsk ? ", Enter opens its run" : "";
    return `${all}. ${this.said(this.cell)}. Arrow keys choose a cell${opens}`;
  }

  /**
   * How many cells are of each kind.
   * @param {number} frame
   */
  counts(frame) {
    const found = this.panel.kinds.map(() => 0);
    for (const value of this.find.values(frame)) if (Number.isFinite(value)) found[value] += 1;
    return found;
  }

  /** @param {Cell} cell */
  named([row, column]) {
    const { rows, columns } = this.panel;
    return `${rows.name} ${rows.labels[row]}, ${columns.name} ${columns.labels[column]}`;
  }

  /**
   * What is known of a cell.
   * @param {Cell} cell
   */
  said(cell) {
    const { kinds, unit } = this.panel;
    const { index: frame } = this.player;
    const value = this.find.value(frame, ...cell);
    const [n, agree] = [this.find.seeds(...cell), this.find.agree(frame, ...cell)];
    const seeds = n > 1 ? `, ${agree === null ? "" : `${agree} of `}${n} seeds` : "";
    const what = kinds.length ? kinds[value] : `${exact(value)} ${unit}`.trim();
    return `${this.named(cell)}: ${Number.isFinite(value) ? what + seeds : "nothing yet"}`;
  }

  layout() {
    const { panel, theme, least } = this;
    const { rows, columns } = panel;
    const sizes = { width: this.root.clientWidth, room: this.room, least, curves: Boolean(panel.curves) };
    this.at = layout({ ...sizes, rows, columns });
    if (!this.fit(this.at.height)) return;
    const { cells, curves } = this.at;
    this.box = curves;
    this.xs = edges(columns, cells.left, cells.right);
    this.ys = edges(rows, cells.bottom, cells.top);
    if (panel.points) this.scaleSteps([panel.points]);
    this.paint.arrange(this.xs, this.ys);
    this.kinds.forEach((key, k) => (swatch(key).style.background = this.paint.fills[k]));
    this.lines.forEach((key, line) => (swatch(key).style.borderTop = this.curves?.border(line) ?? ""));
    const ends = panel.scale === "diverging" ? { low: -panel.high } : {};
    this.colours?.paint(theme.ramps[panel.scale], { ...panel, ...ends });
    this.base.clearRect(0, 0, this.width, this.height);
    this.labels();
    this.curves?.draw(this.base, this.cell, this.named(this.cell));
    this.drawn = null;
  }

  /** The names of the axes and their values. */
  labels() {
    const { base: context, panel, at, least } = this;
    if (!at) return;
    const { rows, columns } = panel;
    const { cells, turned } = at;
    const type = Math.max(13, least);
    const names = { rows: `${rows.name} ↑`, columns: `${columns.name} →` };
    const right = Math.max(cells.right, this.textWidth(context, names.columns));
    this.write(context, names.rows, 0, cells.top - 14);
    this.write(context, names.columns, right, cells.bottom + at.foot - 8, { align: "right" });
    const ys = centres(rows, cells.bottom, cells.top);
    const upwards = ys.map((y) => -y);
    for (const r of apart(upwards, type + 1)) {
      const label = fitting(rows.labels[r], cells.left - 8, 0.55 * type);
      this.write(context, label, cells.left - 8, ys[r], { align: "right" });
    }
    const xs = centres(columns, cells.left, cells.right);
    const widest = Math.max(...columns.labels.map((label) => this.textWidth(context, label))) + LABEL_GAP;
    for (const c of apart(xs, turned ? type + 2 : widest)) {
      const label = fitting(columns.labels[c], 104, 0.55 * type);
      const [x, y] = [xs[c], cells.bottom + 16];
      if (!turned) this.write(context, label, x, y, { align: "center" });
      else this.write(context, label, x, cells.bottom + 8, { align: "right", turned });
    }
  }

  live() {
    if (!this.top || !this.at) return;
    const { top: context, at } = this;
    const { index } = this.player;
    if (this.drawn !== index) {
      context.clearRect(0, 0, at.cells.right + 4, at.cells.bottom + 4);
      const { left: x, top: y, right, bottom } = at.cells;
      if (this.isGap) this.drawGap(context, [{ x, y, w: right - x, h: bottom - y }]);
      else {
        this.paint.draw(context, index);
        this.paint.frame(context, this.cell);
      }
      const counts = this.counts(index);
      this.kinds.forEach((key, k) => {
        const shown = /** @type {HTMLElement} */ (key.lastElementChild);
        if (shown.textContent !== String(counts[k])) shown.textContent = String(counts[k]);
      });
    }
    this.drawn = this.onto ? null : index; // another canvas says nothing of the one on screen
    this.curves?.live(context, this.cell);
    if (this.pointer) this.retip();
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {string | null}
   */
  tipAt(x, y) {
    const hit = this.hit(x, y);
    if (hit && this.isGap) return GAP;
    if (this.box && !hit && this.isAxis(x, y) && this.isVeiled(x)) return VEILED;
    return this.under(x, y);
  }

  /**
   * What is known of the cell at the pointer, or else the curve nearest to it, with its value there.
   * @param {number} x
   * @param {number} y
   * @returns {string | null}
   */
  under(x, y) {
    const hit = this.hit(x, y);
    if (hit) return this.said(hit) + (this.run(hit) && this.player.onAsk ? `; click opens ${this.run(hit)}` : "");
    if (!this.curves || this.dragging || !this.isAxis(x, y)) return null;
    return this.curves.under(this.cell, x, y);
  }
}

/** @param {HTMLElement} key of a legend */
const swatch = (key) => /** @type {HTMLElement} */ (key.firstElementChild);
