// A value for each pair of snapshots, as a square map with the cursor on both axes.

import { Key } from "../canvas.js";
import { context2d, element } from "../dom.js";
import { count, exact } from "../numbers.js";
import { before, clamp, nearest } from "../scales.js";
import { Timeline } from "../timeline.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   values: NumberArray, row_axis: string, column_axis: string, low: number, high: number, unit: string,
 *   scale: import("../types.d.ts").Scale,
 * }} PairsData
 */

const LARGEST = 420; // pixels of a side, unless the map is to fill more
const TYPE = 13; // pixels, unless all type is to be larger
const ABOVE = 8;
const CLEAR = 14; // pixels below the map in which the cursor ends

/**
 * The square in which the map is drawn.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number} sizes.left room for the labels
 * @param {number} sizes.cells in a row
 * @param {number} sizes.type its size, in pixels
 * @param {number | null} [sizes.room] height to fill; null: as the map needs
 */
export const layout = ({ width, left, cells, type, room = null }) => {
  const around = ABOVE + CLEAR + Math.ceil(2.4 * type);
  const side = Math.max(cells, Math.min(width - left - 16, room === null ? LARGEST : room - around));
  const box = { left, top: ABOVE, right: left + side, bottom: ABOVE + side };
  return { height: side + around, cell: side / cells, box };
};

/**
 * The scale on which all steps have equal room, in the middle of which each is.
 * @param {{ left: number, right: number }} box
 * @param {ArrayLike<number>} steps ascending
 */
export const equalScale = (box, steps) => {
  const cell = (box.right - box.left) / steps.length;
  const last = steps.length - 1;
  return {
    x: (/** @type {number} */ step) => {
      const at = clamp(before(steps, step), 0, last);
      const share = at < last ? clamp((step - steps[at]) / (steps[at + 1] - steps[at]), 0, 1) : 0;
      return box.left + (at + share + 0.5) * cell;
    },
    stepAt: (/** @type {number} */ x) => {
      const place = clamp((x - box.left) / cell - 0.5, 0, last);
      const at = Math.floor(place);
      return steps[at] + (place - at) * ((steps[at + 1] ?? steps[at]) - steps[at]);
    },
  };
};

/**
 * The numbers of a frame: those of its column and of its row.
 * @param {PairsData} panel
 * @param {ArrayLike<number>} steps
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, steps, frame) => ({
  columns: ["step", `${panel.row_axis} there`, `${panel.column_axis} there`],
  rows: Array.from(steps, (step, i) => [
    step,
    panel.values[i * steps.length + frame],
    panel.values[frame * steps.length + i],
  ]),
});

/** @extends {Timeline<PairsData>} */
export default class Pairs extends Timeline {
  /**
   * @param {PairsData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.colours = new Key(this.tools);
  }

  /** Its steps do not line up with those of other panels. */
  get left() {
    return 20 + 4 * this.type;
  }

  get type() {
    return Math.max(TYPE, this.least);
  }

  get margin() {
    return 0;
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, this.steps, frame);
  }

  scaleSteps() {
    if (this.box) Object.assign(this, equalScale(this.box, this.steps));
  }

  /**
   * The place of a step on the vertical axis, which begins at the bottom.
   * @param {number} step
   */
  y(step) {
    const { box } = this;
    return box ? box.bottom - (this.x(step) - box.left) : 0;
  }

  /**
   * The ends of a frame's column.
   * @param {number} frame
   * @returns {[number, number]}
   */
  band(frame) {
    const { box } = this;
    const half = box ? (box.right - box.left) / this.steps.length / 2 : 0;
    const x = this.x(this.steps[frame]);
    return [x - half, x + half];
  }

  layout() {
    const { panel, theme, steps, room } = this;
    const n = steps.length;
    const { type } = this;
    const { height, cell, box } = layout({ width: this.root.clientWidth, left: this.left, cells: n, type, room });
    if (!this.fit(height)) return;
    this.box = box;
    this.scaleSteps();
    const { base: context } = this;
    const side = box.right - box.left;
    context.clearRect(0, 0, this.width, this.height);
    context.fillStyle = theme.wash; // shows where there is no value
    context.fillRect(box.left, box.top, side, side);
    const picture = element("canvas", { width: n, height: n });
    const image = context2d(picture).createImageData(n, n);
    const packed = new Uint32Array(image.data.buffer);
    const colours = theme.ramps[panel.scale];
    for (let i = 0; i < n * n; i += 1) {
      const value = panel.values[i];
      const level = clamp((value - panel.low) / (panel.high - panel.low || 1), 0, 1);
      const row = n - 1 - Math.floor(i / n);
      packed[row * n + (i % n)] = Number.isFinite(value) ? colours[Math.round(255 * level)] : 0;
    }
    context2d(picture).putImageData(image, 0, 0);
    context.imageSmoothingEnabled = cell < 1;
    context.drawImage(picture, box.left, box.top, side, side);
    this.hatchGaps(context);
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.strokeRect(box.left - 0.5, box.top - 0.5, side + 1, side + 1);
    this.drawVeil(context);
    this.axes(context);
    this.colours.paint(colours, panel);
  }

  /** @param {CanvasRenderingContext2D} context */
  axes(context) {
    const { box, panel, steps, type: size } = this;
    if (!box) return;
    const wanted = clamp(Math.floor((box.right - box.left) / (size * 6)), 2, 6);
    const named = [
      ...new Set(Array.from({ length: wanted }, (_, i) => Math.round((i * (steps.length - 1)) / (wanted - 1)))),
    ];
    for (const place of named) {
      const label = count(steps[place]);
      const half = this.textWidth(context, label) / 2;
      const x = clamp(this.x(steps[place]), box.left + half, Math.max(box.right - half, box.left + half));
      this.write(context, label, x, box.bottom + CLEAR + size / 2, { align: "center" });
      const y = clamp(this.y(steps[place]), box.top + size / 2, box.bottom - size / 2);
      this.write(context, label, box.left - 8, y, { align: "right" });
    }
    const middle = (box.top + box.bottom) / 2;
    const below = box.bottom + CLEAR + 1.8 * size;
    this.write(context, panel.column_axis, (box.left + box.right) / 2, below, { align: "center" });
    this.write(context, panel.row_axis, size / 2 + 2, middle, { align: "center", turned: true });
  }

  live() {
    const { top, box, theme } = this;
    if (!top || !box) return;
    top.clearRect(0, 0, this.width, this.height);
    const y = this.y(this.cursorStep);
    top.strokeStyle = theme.cursor;
    top.lineWidth = 2;
    top.beginPath();
    top.moveTo(box.left, y);
    top.lineTo(box.right, y);
    top.stroke();
    this.cursor(top);
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const { box, panel, steps } = this;
    if (!box || this.dragging || x < box.left || x > box.right || y < box.top || y >= box.bottom) return null;
    const column = nearest(steps, this.stepAt(x));
    const row = nearest(steps, this.stepAt(box.left + box.bottom - y));
    const value = exact(panel.values[row * steps.length + column]);
    const [from, into] = [count(steps[column]), count(steps[row])];
    return `${panel.column_axis} ${from}, ${panel.row_axis} ${into}: ${value} ${panel.unit}`;
  }
}
