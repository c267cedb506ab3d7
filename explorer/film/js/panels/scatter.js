// Points that move in a plane, with one scale for both axes.

import { CanvasPanel, Key } from "../canvas.js";
import { category, css, hue } from "../colour.js";
import { context2d, element } from "../dom.js";
import { count, exact, tick } from "../numbers.js";
import { TURN, clamp, extent, ticks } from "../scales.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {{
 *   name: string, values: NumberArray, categories: string[], low: number, high: number,
 * }} Colouring values are (frame or 1, point); see scatter.py
 */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   labels: string[], x: NumberArray, y: NumberArray, x_axis: string, y_axis: string, trail: boolean, ring: boolean,
 *   colouring: Colouring | null,
 * }} ScatterData x and y are (frame, point)
 */

const MOST_LABELS = 24; // points up to this number have their labels beside them, more only under the pointer
const MOST_KEYS = 24; // categories up to this number have an entry each in the legend
const FAINTEST = 85; // the place on the sequential ramp of the lowest value, which must differ from the page
const MANY = 200; // points from this number on are small

/**
 * What gives a point its colour: the place of its category, or a number.
 * @param {Colouring} colouring
 * @param {number} frame
 * @param {number} p
 */
export const coloured = ({ values }, frame, p) => {
  const [frames, points] = values.shape;
  return values[(frames === 1 ? 0 : frame) * points + p];
};

/**
 * The place of a number on a ramp of 256 colours; -1 if it is no number.
 * @param {Pick<Colouring, "low" | "high">} ends
 * @param {number} value
 */
export const level = ({ low, high }, value) => {
  if (!Number.isFinite(value)) return -1;
  return FAINTEST + Math.round((255 - FAINTEST) * clamp((value - low) / (high - low || 1), 0, 1));
};

/**
 * The name of what gives a point its colour.
 * @param {Colouring} colouring
 * @param {number} value
 */
export const named = ({ categories }, value) => (categories.length ? categories[value] : exact(value));

/**
 * The square that is drawn in, and where a point lies in it.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {Iterable<number>} sizes.x all coordinates
 * @param {Iterable<number>} sizes.y
 * @param {number | null} [sizes.room] height to fill; null: as the panel likes
 */
export const layout = ({ width, x, y, room = null }) => {
  const size = room === null ? clamp(width - 64, 160, 420) : room - 48;
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
export const table = ({ labels, x, y, x_axis, y_axis, colouring }, frame) => ({
  columns: ["point", x_axis, y_axis, ...(colouring ? [colouring.name] : [])],
  rows: labels.map((label, p) => {
    const i = frame * labels.length + p;
    if (!colouring) return [label, x[i], y[i]];
    const value = coloured(colouring, frame, p);
    return [label, x[i], y[i], colouring.categories.length ? named(colouring, value) : value];
  }),
});

/** @extends {CanvasPanel<ScatterData>} */
export default class Scatter extends CanvasPanel {
  box = /** @type {ReturnType<typeof layout>["box"] | null} */ (null);
  at = /** @type {(x: number, y: number) => [number, number]} */ ((x, y) => [x, y]);
  ramp = /** @type {string[]} */ ([]); // of numbers

  /**
   * @param {ScatterData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    const categories = panel.colouring?.categories ?? [];
    this.hiding = this.option("hidden", [], categories);
    this.swatches = categories.length <= MOST_KEYS ? categories.map((name) => this.key(name)) : [];
    if (this.swatches.length) {
      const keys = this.swatches.map((swatch) => /** @type {HTMLElement} */ (swatch.parentElement));
      this.stage.before(element("div", { class: "keys" }, ...keys));
    } else if (categories.length) {
      this.hues = element("canvas", { class: "ramp", width: categories.length, height: 1, "aria-hidden": "true" });
      this.tools.append(categories[0], this.hues, categories[categories.length - 1]);
    } else if (panel.colouring) this.colours = new Key(this.tools);
  }

  /**
   * The swatch of a category, in its entry of the legend. A click on it hides or shows its points.
   * @param {string} name
   */
  key(name) {
    const swatch = element("i");
    const shown = !this.hiding.get().includes(name);
    const key = element("button", { class: "key", type: "button", "aria-pressed": shown }, swatch, name);
    key.onclick = () => {
      const others = this.hiding.get().filter((/** @type {string} */ other) => other !== name);
      const hide = others.length === this.hiding.get().length;
      this.hiding.set(hide ? [...others, name] : others);
      key.setAttribute("aria-pressed", String(!hide));
    };
    return swatch;
  }

  /** Paint the legend. */
  legend() {
    const { colouring } = this.panel;
    const { sequential } = this.theme.ramps;
    this.swatches.forEach((swatch, c) => (swatch.style.background = this.category(c)));
    if (this.hues && colouring) {
      const context = context2d(this.hues);
      colouring.categories.forEach((_, c) => {
        context.fillStyle = this.category(c);
        context.fillRect(c, 0, 1, 1);
      });
    }
    if (!this.colours || !colouring) return;
    this.ramp = [...sequential].map(css);
    const seen = Uint32Array.from(
      sequential,
      (_, i) => sequential[FAINTEST + Math.round((i * (255 - FAINTEST)) / 255)],
    );
    const { low, high, values } = colouring;
    this.colours.paint(seen, { low, high, scale: "sequential" });
    this.colours.low.textContent = tick(low);
    this.colours.high.textContent = values.some((value) => value > high) ? `≥ ${tick(high)}` : tick(high);
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  layout() {
    const { panel, theme } = this;
    const { height, box, ends, at } = layout({
      width: this.root.clientWidth,
      x: panel.x,
      y: panel.y,
      room: this.room,
    });
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
    const colour = panel.colouring ? `   colour: ${panel.colouring.name}` : "";
    this.write(context, `${panel.y_axis} ↑   ${panel.x_axis} →${colour}`, box.left, this.height - 6);
    this.legend();
    if (!panel.trail) return;
    const [frames, points] = panel.x.shape;
    context.strokeStyle = theme.line;
    context.lineWidth = 2;
    for (let p = 0; p < points; p += 1) this.path(context, p, frames);
  }

  /**
   * The colour of a point in this frame.
   * @param {number} p
   */
  colour(p) {
    const { palette } = this.theme;
    const { ring, labels, colouring } = this.panel;
    if (!colouring) return ring ? hue(this.theme.ring, p, labels.length) : palette[p % palette.length];
    const value = coloured(colouring, this.player.index, p);
    if (colouring.categories.length) return this.category(value);
    return this.ramp[level(colouring, value)] ?? this.theme.line;
  }

  /** @param {number} c */
  category(c) {
    return category(this.theme, c, this.panel.colouring?.categories.length ?? 0);
  }

  /** Which points are shown, by the categories that the reader has not hidden. */
  shown() {
    const { colouring } = this.panel;
    const hidden = new Set(this.hiding.get());
    if (!colouring || !hidden.size) return () => true;
    return (/** @type {number} */ p) => !hidden.has(named(colouring, coloured(colouring, this.player.index, p)));
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
    let pen = false;
    for (let f = 0; f < frames; f += 1) {
      const place = this.at(panel.x[f * points + p], panel.y[f * points + p]);
      context[pen ? "lineTo" : "moveTo"](...place);
      pen = place.every(Number.isFinite);
    }
    context.stroke();
  }

  /** Where the points of this frame are on the canvas. */
  places() {
    const { panel } = this;
    const first = this.player.index * panel.labels.length;
    return panel.labels.map((_, p) => this.at(panel.x[first + p], panel.y[first + p]));
  }

  /** The points that are shown in this frame, by their colour. */
  byColour() {
    const found = /** @type {Map<string, number[]>} */ (new Map());
    const shown = this.shown();
    this.panel.labels.forEach((_, p) => {
      if (!shown(p)) return;
      const colour = this.panel.trail ? this.theme.cursor : this.colour(p);
      const points = found.get(colour);
      if (points) points.push(p);
      else found.set(colour, [p]);
    });
    return found;
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, panel, theme } = this;
    const places = this.places();
    context.clearRect(0, 0, this.width, this.height);
    if (this.isGap) {
      const { left: x, top: y, side } = this.box;
      this.drawGap(context, [{ x, y, w: side, h: side }]);
      if (this.pointer) this.retip();
      return;
    }
    if (panel.ring) {
      context.strokeStyle = theme.line;
      context.lineWidth = 1;
      context.beginPath();
      for (const place of [...places, places[0]]) context.lineTo(...place);
      context.stroke();
    }
    if (panel.trail) {
      context.lineWidth = 2;
      places.forEach((_, p) => {
        context.strokeStyle = this.colour(p);
        this.path(context, p, this.player.index + 1);
      });
    }
    const radius = panel.trail ? 6 : places.length > MANY ? 3 : 4;
    // One path for all points of a colour: far fewer to fill than points.
    for (const [colour, points] of this.byColour()) {
      context.fillStyle = colour;
      context.beginPath();
      for (const p of points) {
        const [x, y] = places[p];
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, TURN);
      }
      context.fill();
    }
    if (places.length <= MOST_LABELS && !panel.trail && !panel.colouring)
      places.forEach(([x, y], p) => this.write(context, panel.labels[p], x + 6, y - 6, { size: 11 }));
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
    const shown = this.shown();
    for (let i = first; i < last; i += 1) {
      if (!shown(i % n)) continue;
      const [px, py] = this.at(panel.x[i], panel.y[i]);
      const off = Math.hypot(px - x, py - y);
      if (off >= least) continue;
      least = off;
      found = i;
    }
    if (found < 0) return null;
    const when = panel.trail ? ` at step ${count(this.player.film.steps[Math.floor(found / n)])}` : "";
    const place = `${panel.x_axis} ${exact(panel.x[found])}, ${panel.y_axis} ${exact(panel.y[found])}`;
    const { colouring } = panel;
    const value = colouring ? coloured(colouring, this.player.index, found % n) : 0;
    const meaning = colouring ? `; ${colouring.name} ${named(colouring, value)}` : "";
    return `${panel.labels[found % n]}${when}: ${place}${meaning}`;
  }
}
