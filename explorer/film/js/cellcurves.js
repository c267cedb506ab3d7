// The curves of one cell of a plane, over the steps.

import { count, exact, fitting, tick } from "./numbers.js";
import { TURN, limits, nearest, ticks } from "./scales.js";
import { trace } from "./trace.js";

/** @typedef {import("./types.d.ts").NumberArray} NumberArray */
/** @typedef {import("./cells.js").Cell} Cell */

const DASHES = [[], [6, 4], [2, 3], [10, 3, 2, 3]]; // of the curves of a cell, one after the other
const PATTERNS = ["solid", "dashed", "dotted", "dashed"]; // the same in the legend
const GUTTER = 56; // pixels left of the axis
const ABOVE = 28; // above the curves, for the name of the cell
const NEAR = 24; // pixels from a curve to the pointer

export class CellCurves {
  low = 0; // the ends of the axis
  high = 1;

  /**
   * @param {import("./timeline.js").Timeline<import("./cells.js").PlaneData>} host that has the box and the step axis
   * @param {ReturnType<typeof import("./cells.js").finder>} find
   */
  constructor(host, find) {
    this.host = host;
    this.find = find;
    this.panel = host.panel;
    this.points = /** @type {NumberArray} */ (host.panel.points);
    const { curves, threshold } = host.panel;
    // The same for all cells.
    [this.low, this.high] = limits([curves ?? []], threshold === null ? [] : [threshold], false);
  }

  /** @param {number} value */
  y(value) {
    const { box } = this.host;
    return box ? box.bottom - ((value - this.low) / (this.high - this.low)) * (box.bottom - box.top) : 0;
  }

  /**
   * How a curve looks in the legend, as a border of CSS.
   * @param {number} line
   */
  border(line) {
    return `3px ${PATTERNS[line % PATTERNS.length]} ${this.host.theme.ink}`;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} value
   * @param {string} colour
   */
  rule(context, value, colour) {
    const { box } = this.host;
    const y = Math.round(this.y(value)) + 0.5;
    context.strokeStyle = colour;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(box?.left ?? 0, y);
    context.lineTo(box?.right ?? 0, y);
    context.stroke();
  }

  /**
   * Draw the axes and the curves of a cell.
   * @param {CanvasRenderingContext2D} context
   * @param {Cell} cell
   * @param {string} name of the cell
   */
  draw(context, cell, name) {
    const { host, panel } = this;
    const { box, theme, least } = host;
    if (!box) return;
    context.clearRect(box.left - GUTTER, box.top - ABOVE, host.width, host.height);
    for (const value of ticks(this.low, this.high, 5)) {
      this.rule(context, value, theme.line);
      host.write(context, tick(value), box.left - 8, this.y(value), { align: "right" });
    }
    host.stepAxis(context);
    if (panel.curve_unit) host.write(context, `${panel.curve_unit} ↑`, box.left - 48, box.bottom + 32);
    if (panel.threshold !== null) {
      context.setLineDash([2, 4]);
      this.rule(context, panel.threshold, theme.soft);
      context.setLineDash([]);
    }
    context.strokeStyle = theme.ink;
    context.lineWidth = 2;
    context.lineJoin = "round";
    panel.lines.forEach((_, line) => {
      context.setLineDash(DASHES[line % DASHES.length]);
      const curve = { steps: this.points, values: this.find.curve(...cell, line) };
      trace(context, curve, {
        x: (step) => host.x(step),
        y: (value) => this.y(value),
        log: false,
        width: 2,
      });
    });
    context.setLineDash([]);
    const shown = fitting(name, box.right - box.left + 48, 0.56 * Math.max(13, least));
    host.write(context, shown, box.left - 48, box.top - ABOVE / 2, { weight: 600, colour: theme.ink });
    host.drawVeil(context);
  }

  /**
   * Draw the cursor, with a dot where it meets each curve.
   * @param {CanvasRenderingContext2D} context
   * @param {Cell} cell
   */
  live(context, cell) {
    const { host, panel } = this;
    const { box } = host;
    if (!box) return;
    context.clearRect(box.left - 8, box.top - 8, host.width, host.height);
    const x = host.cursor(context);
    context.fillStyle = host.theme.ink;
    panel.lines.forEach((_, line) => {
      const value = this.find.at(...cell, line, host.player.here);
      if (!Number.isFinite(value)) return;
      context.beginPath();
      context.arc(x, this.y(value), 4, 0, TURN);
      context.fill();
    });
  }

  /**
   * The curve of a cell nearest to a place, with its value there.
   * @param {Cell} cell
   * @param {number} x
   * @param {number} y
   */
  under(cell, x, y) {
    const { panel, points } = this;
    const point = nearest(points, this.host.stepAt(x));
    let least = NEAR;
    let found = null;
    for (const [line, name] of panel.lines.entries()) {
      const value = this.find.curve(...cell, line)[point];
      const off = Math.abs(this.y(value) - y);
      if (!(off < least)) continue;
      least = off;
      found = `${name} at step ${count(points[point])}: ${exact(value)} ${panel.curve_unit}`.trim();
    }
    if (found || panel.threshold === null || !(Math.abs(this.y(panel.threshold) - y) < NEAR / 3)) return found;
    return `threshold ${exact(panel.threshold)} ${panel.curve_unit}`.trim();
  }
}
