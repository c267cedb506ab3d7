// Rows of values over the steps, drawn as one picture that serves as a timeline.

import { Key } from "../canvas.js";
import { context2d, element } from "../dom.js";
import { count, exact, longest } from "../numbers.js";
import { before, clamp } from "../scales.js";
import { Timeline } from "../timeline.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   rows: string[], steps: NumberArray, values: NumberArray, frames: NumberArray, low: number, high: number,
 *   unit: string, marks: NumberArray | null, mark: string, scale: import("../types.d.ts").Scale,
 * }} RasterData `frames` has the place in `steps` of the last one up to each frame
 */

/**
 * The box in which the picture is drawn.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number} sizes.left room for the labels
 * @param {number} sizes.rows
 * @param {number | null} [sizes.room] height to fill; null: as the rows need
 */
export const layout = ({ width, left, rows, room = null }) => {
  const own = rows > 64 ? 640 / rows : clamp(Math.round(240 / rows), 10, 24);
  const pitch = room === null ? own : (room - 48) / rows;
  const bottom = 8 + pitch * rows;
  return { height: bottom + 40, pitch, box: { left, top: 8, right: width - 16, bottom } };
};

/**
 * The numbers of a frame.
 * @param {RasterData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => ({
  columns: ["row", panel.unit || "value", ...(panel.marks ? [panel.mark] : [])],
  rows: panel.rows.map((row, r) => [
    row,
    panel.values[r * panel.steps.length + panel.frames[frame]],
    ...(panel.marks ? [panel.marks[r]] : []),
  ]),
});

/** @extends {Timeline<RasterData>} */
export default class Raster extends Timeline {
  /**
   * @param {RasterData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.colours = new Key(this.tools);
    this.gutter = clamp(8 * longest(panel.rows) + 12, 48, 160);
  }

  /** The film's steps; the panel's own are those of its values. */
  get steps() {
    return this.player.film.steps;
  }

  /**
   * The place of a frame without values: up to the next one, as that of all values.
   * @param {number} frame
   * @returns {[number, number]}
   */
  band(frame) {
    const { steps } = this;
    return [this.x(steps[frame]), frame + 1 < steps.length ? this.x(steps[frame + 1]) : (this.box?.right ?? 0)];
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  layout() {
    const { panel, theme } = this;
    const n = panel.rows.length;
    const { room, left } = this;
    const { height, pitch, box } = layout({ width: this.root.clientWidth, left, rows: n, room });
    if (!this.fit(height)) return;
    this.box = box;
    const { base: context } = this;
    this.scaleSteps([panel.steps]);
    context.clearRect(0, 0, this.width, this.height);
    context.fillStyle = theme.wash; // shows where there is no value
    context.fillRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    const every = Math.ceil(Math.max(12, this.least) / pitch);
    panel.rows.forEach((label, r) => {
      if (r % every) return;
      const y = box.top + (r + 0.5) * pitch;
      this.write(context, label, box.left - 8, y, { align: "right", size: clamp(pitch, 11, 13) });
    });
    // The picture has a column for each pixel, with the last value up to its step.
    const width = Math.max(1, Math.round(box.right - box.left));
    const picture = element("canvas", { width, height: n });
    const image = context2d(picture).createImageData(width, n);
    const packed = new Uint32Array(image.data.buffer);
    const colours = theme.ramps[panel.scale];
    for (let px = 0; px < width; px += 1) {
      const at = before(panel.steps, this.stepAt(box.left + px + 0.5));
      for (let r = 0; r < n; r += 1) {
        const value = panel.values[r * panel.steps.length + at];
        const level = clamp((value - panel.low) / (panel.high - panel.low || 1), 0, 1);
        packed[r * width + px] = Number.isFinite(value) ? colours[Math.round(255 * level)] : 0;
      }
    }
    context2d(picture).putImageData(image, 0, 0);
    context.imageSmoothingEnabled = pitch < 1; // no row is lost
    context.drawImage(picture, box.left, box.top, width, box.bottom - box.top);
    this.hatchGaps(context);
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.strokeRect(box.left - 0.5, box.top - 0.5, width + 1, box.bottom - box.top + 1);
    panel.marks?.forEach((step, r) => {
      if (!Number.isFinite(step)) return;
      context.fillStyle = theme.paper;
      context.fillRect(this.x(step) - 2.5, box.top + r * pitch, 5, pitch);
      context.fillStyle = theme.ink;
      context.fillRect(this.x(step) - 1, box.top + r * pitch, 2, pitch);
    });
    this.drawVeil(context);
    this.stepAxis(context);
    this.colours.paint(colours, panel);
  }

  live() {
    if (!this.top || !this.box) return;
    this.top.clearRect(0, 0, this.width, this.height);
    this.cursor(this.top);
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const { box, panel } = this;
    if (!box || this.dragging || x < box.left || x > box.right || y < box.top || y >= box.bottom) return null;
    const row = Math.floor(((y - box.top) / (box.bottom - box.top)) * panel.rows.length);
    const at = before(panel.steps, this.stepAt(x));
    const step = panel.marks?.[row] ?? NaN;
    const marked = Number.isFinite(step) ? `; ${panel.mark} at step ${count(step)}` : "";
    const value = exact(panel.values[row * panel.steps.length + at]);
    return `${panel.rows[row]} at step ${count(panel.steps[at])}: ${value} ${panel.unit}${marked}`;
  }
}
