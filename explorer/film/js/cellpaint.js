// The colours of a plane's cells, and what is written in them.

import { narrowest } from "./cells.js";
import { category, css, readable, unpacked } from "./colour.js";
import { short } from "./numbers.js";
import { clamp } from "./scales.js";
import { rgb } from "./theme.js";

/** @typedef {import("./cells.js").Cell} Cell */

const TEXT = /** @type {[number, number]} */ ([11, 16]); // pixels, the least and the most

export class CellPaint {
  fills = /** @type {string[]} */ ([]); // of each kind, or of each level of the colour scale
  inks = /** @type {string[]} */ ([]); // in which text is read on them
  xs = /** @type {number[]} */ ([]); // the ends of the columns
  ys = /** @type {number[]} */ ([]); // and of the rows, from the lowest
  size = 0; // of text
  widths = /** @type {Map<string, number>} */ (new Map()); // of texts of this size

  /**
   * @param {import("./timeline.js").Timeline<import("./cells.js").PlaneData>} host
   * @param {ReturnType<typeof import("./cells.js").finder>} find
   */
  constructor(host, find) {
    this.host = host;
    this.find = find;
  }

  /**
   * Take the colours of the page, and the places of the cells.
   * @param {number[]} xs
   * @param {number[]} ys
   */
  arrange(xs, ys) {
    const { theme, least, panel } = this.host;
    const ramp = [...theme.ramps[panel.scale]];
    const n = panel.kinds.length;
    this.fills = n ? panel.kinds.map((_, k) => category(theme, k, n)) : ramp.map(css);
    this.inks = (n ? this.fills.map(rgb) : ramp.map(unpacked)).map(readable);
    [this.xs, this.ys] = [xs, ys];
    this.size = Math.max(clamp(Math.min(0.36 * narrowest(ys), 0.45 * narrowest(xs)), ...TEXT), least);
    this.widths.clear();
  }

  /** Finds the place of a value among the colours. @returns {(value: number) => number} */
  get place() {
    const { kinds, low, high, scale, log_colour: isLog } = this.host.panel;
    if (kinds.length) return (value) => value;
    const on = isLog ? Math.log : (/** @type {number} */ value) => value;
    const [first, last] = [on(scale === "diverging" ? -high : low), on(high)];
    return (value) => clamp(Math.round((255 * (on(value) - first)) / (last - first || 1)) || 0, 0, 255);
  }

  /**
   * What is written in a cell: how many seeds agree, or the number.
   * @param {number} frame
   * @param {Cell} cell
   */
  written(frame, cell) {
    if (!this.host.panel.kinds.length) return short(this.find.value(frame, ...cell));
    const [n, agree] = [this.find.seeds(...cell), this.find.agree(frame, ...cell)];
    return n > 1 && agree !== null ? `${agree}/${n}` : "";
  }

  /**
   * The size at which a text fits a width: smaller than the others' if it must be; 0: it fits at none.
   * @param {CanvasRenderingContext2D} context
   * @param {string} text
   * @param {number} width
   */
  sizeOf(context, text, width) {
    const { theme, least } = this.host;
    if (!this.widths.has(text)) {
      context.font = `500 ${this.size}px ${theme.font}`;
      this.widths.set(text, context.measureText(text).width);
    }
    const size = this.size * Math.min(1, width / (this.widths.get(text) || 1));
    return size < Math.max(TEXT[0], least) ? 0 : size;
  }

  /**
   * Draw the cells of a frame.
   * @param {CanvasRenderingContext2D} context
   * @param {number} frame
   */
  draw(context, frame) {
    const { xs, ys, find, size, place } = this;
    const { theme, panel } = this.host;
    const [rows, columns] = [ys.length - 1, xs.length - 1];
    if (!panel.kinds.length) {
      context.fillStyle = theme.line; // around cells, of which some have the colour of the page
      context.fillRect(xs[0] - 1, ys[rows] - 1, xs[columns] - xs[0] + 1, ys[0] - ys[rows] + 1);
    }
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let row = 0; row < rows; row += 1) {
      for (let column = 0; column < columns; column += 1) {
        const value = find.value(frame, row, column);
        const at = Number.isFinite(value) ? place(value) : -1;
        const [x, y] = [xs[column], ys[row + 1]];
        const [w, h] = [xs[column + 1] - x, ys[row] - y];
        const gap = Math.min(w, h) > 8 ? 1 : 0; // between cells
        context.fillStyle = this.fills[at] ?? theme.wash;
        context.fillRect(x, y, w - gap, h - gap);
        if (at < 0 || h < size + 2) continue;
        const text = this.written(frame, [row, column]);
        const fits = text && this.sizeOf(context, text, w - 6);
        if (!fits) continue;
        context.fillStyle = this.inks[at];
        context.font = `500 ${fits}px ${theme.font}`;
        context.fillText(text, x + (w - gap) / 2, y + (h - gap) / 2 + 0.5);
      }
    }
  }

  /**
   * Frame a cell, in two colours, of which one can be seen on any.
   * @param {CanvasRenderingContext2D} context
   * @param {Cell} cell
   */
  frame(context, [row, column]) {
    const { xs, ys } = this;
    const { theme } = this.host;
    const [x, y] = [xs[column] - 0.5, ys[row + 1] - 0.5];
    const [w, h] = [xs[column + 1] - xs[column], ys[row] - ys[row + 1]];
    context.lineWidth = 3;
    context.strokeStyle = theme.ink;
    context.strokeRect(x, y, w, h);
    if (Math.min(w, h) < 8) return;
    context.lineWidth = 1;
    context.strokeStyle = theme.paper;
    context.strokeRect(x + 2, y + 2, w - 4, h - 4);
  }
}
