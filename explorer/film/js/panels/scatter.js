// Points that move in a plane, with one scale for both axes.

import { CanvasPanel } from "../canvas.js";
import { count, exact, tick } from "../numbers.js";
import { clamp, extent, ticks } from "../scales.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   labels: string[], x: NumberArray, y: NumberArray, x_axis: string, y_axis: string, trail: boolean, ring: boolean,
 * }} ScatterData x and y are (frame, point)
 */

const MOST_LABELS = 24; // points up to this number have their labels beside them, more only under the pointer

/**
 * The square that is drawn in, and where a point lies in it.
 * @param {{ width: number, x: Iterable<number>, y: Iterable<number> }} sizes width of the panel, and all coordinates
 */
export const layout = ({ width, x, y }) => {
  const size = clamp(width - 64, 160, 420);
  const side = Math.min(width - 64, size);
  const box = { left: 56, top: 8, side };
  const [xs, ys] = [extent(x), extent(y)];
  const span = 1.1 * Math.max(xs[1] - xs[0], ys[1] - ys[0]) || 1;
  const [left, low] = [xs, ys].map(([from, to]) => (from + to - span) / 2);
  return {
    height: size + 48,
    box,
    ends: { left, low, span },
    /** @type {(x: number, y: number) => [number, number]} */
    at: (x, y) => [box.left + ((x - left) / span) * side, box.top + side - ((y - low) / span) * side],
  };
};

/**
 * The numbers of a frame.
 * @param {ScatterData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = ({ labels, x, y, x_axis, y_axis }, frame) => ({
  columns: ["point", x_axis, y_axis],
  rows: labels.map((label, p) => [label, x[frame * labels.length + p], y[frame * labels.length + p]]),
});

/** @extends {CanvasPanel<ScatterData>} */
export default class Scatter extends CanvasPanel {
  box = /** @type {ReturnType<typeof layout>["box"] | null} */ (null);
  at = /** @type {(x: number, y: number) => [number, number]} */ ((x, y) => [x, y]);

  layout() {
    const { panel, theme } = this;
    const { height, box, ends, at } = layout({ width: this.root.clientWidth, x: panel.x, y: panel.y });
    if (!this.fit(height)) return;
    this.box = box;
    this.at = at;
    const { base: context } = this;
    context.clearRect(0, 0, this.width, this.height);
    context.lineWidth = 1;
    /** @type {(value: number, from: [number, number], to: [number, number]) => void} */
    const rule = (value, from, to) => {
      context.strokeStyle = Math.abs(value) < ends.span * 1e-9 ? theme.soft : theme.line;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    };
    const { left, low, span } = ends;
    for (const value of ticks(left, left + span, 4)) {
      const [x] = at(value, low);
      rule(value, [x, box.top], [x, box.top + box.side]);
      this.write(context, tick(value), x, box.top + box.side + 14, { align: "center" });
    }
    for (const value of ticks(low, low + span, 4)) {
      const [, y] = at(left, value);
      rule(value, [box.left, y], [box.left + box.side, y]);
      this.write(context, tick(value), box.left - 8, y, { align: "right" });
    }
    this.write(context, `${panel.y_axis} ↑   ${panel.x_axis} →`, box.left, this.height - 6);
    if (!panel.trail) return;
    const [frames, points] = panel.x.shape;
    context.strokeStyle = theme.line;
    context.lineWidth = 2;
    for (let p = 0; p < points; p += 1) this.path(context, p, frames);
  }

  /** @param {number} p */
  colour(p) {
    const { palette, ring } = this.theme;
    if (!this.panel.ring) return palette[p % palette.length];
    const [saturation, lightness] = ring;
    return `hsl(${(360 * p) / this.panel.labels.length}, ${saturation}%, ${lightness}%)`;
  }

  /**
   * Draw the path of a point through the first frames.
   * @param {CanvasRenderingContext2D} context
   * @param {number} p
   * @param {number} frames
   */
  path(context, p, frames) {
    const { panel } = this;
    const points = panel.labels.length;
    context.lineJoin = "round";
    context.beginPath();
    for (let f = 0; f < frames; f += 1) context.lineTo(...this.at(panel.x[f * points + p], panel.y[f * points + p]));
    context.stroke();
  }

  /** Where the points of this frame are on the canvas. */
  places() {
    const { panel } = this;
    const first = this.player.index * panel.labels.length;
    return panel.labels.map((_, p) => this.at(panel.x[first + p], panel.y[first + p]));
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, panel, theme } = this;
    const places = this.places();
    context.clearRect(0, 0, this.width, this.height);
    if (panel.ring) {
      context.strokeStyle = theme.line;
      context.lineWidth = 1;
      context.beginPath();
      for (const place of [...places, places[0]]) context.lineTo(...place);
      context.stroke();
    }
    places.forEach(([x, y], p) => {
      if (panel.trail) {
        context.strokeStyle = this.colour(p);
        context.lineWidth = 2;
        this.path(context, p, this.player.index + 1);
      }
      context.fillStyle = panel.trail ? theme.cursor : this.colour(p);
      context.beginPath();
      context.arc(x, y, panel.trail ? 6 : 4, 0, 7);
      context.fill();
      if (places.length <= MOST_LABELS && !panel.trail)
        this.write(context, panel.labels[p], x + 6, y - 6, { size: 11 });
    });
    if (this.pointer) this.retip();
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    if (!this.box) return null;
    const { panel } = this;
    const n = panel.labels.length;
    // The pointer finds all snapshots of a trail, otherwise the points of this frame.
    const [first, last] = panel.trail ? [0, panel.x.length] : [this.player.index * n, (this.player.index + 1) * n];
    let least = 16;
    let found = -1;
    for (let i = first; i < last; i += 1) {
      const [px, py] = this.at(panel.x[i], panel.y[i]);
      const off = Math.hypot(px - x, py - y);
      if (off >= least) continue;
      least = off;
      found = i;
    }
    if (found < 0) return null;
    const when = panel.trail ? ` at step ${count(this.player.film.steps[Math.floor(found / n)])}` : "";
    const place = `${panel.x_axis} ${exact(panel.x[found])}, ${panel.y_axis} ${exact(panel.y[found])}`;
    return `${panel.labels[found % n]}${when}: ${place}`;
  }
}
