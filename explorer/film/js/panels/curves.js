// Curves over the steps, on a linear or a logarithmic scale, raw or smoothed.

import { element } from "../dom.js";
import { flag } from "../flag.js";
import { ends, wash, within } from "../interval.js";
import { brief, count, exact, tick } from "../numbers.js";
import { listed } from "../spoken.js";
import { TURN, decades, limits, nearest, ticks } from "../scales.js";
import { BEYOND, Timeline } from "../timeline.js";
import { trace } from "../trace.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {object} Drawn the points that are drawn, and the exact value in each frame
 * @property {NumberArray} steps
 * @property {NumberArray} values
 * @property {NumberArray} frames
 * @property {NumberArray} [interval] how far the truth may be from each value, on either side
 * @property {NumberArray} [margins] the same in each frame
 */
/**
 * @typedef {object} Line
 * @property {string} label
 * @property {number} colour
 * @property {boolean} dashed
 * @property {boolean} strong
 * @property {string} group
 * @property {NumberArray} measured the step of each frame's value; empty if the curve has no points
 * @property {Drawn} raw
 * @property {Drawn} [smoothed]
 */
/**
 * @typedef {{ label: string, step: number, colour: number, group: string, until: number | null }} Mark a flag at a
 *   step, or on a stretch of steps
 */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   lines: Line[], unit: string, references: [string, number][], marks: Mark[], smoothing: number,
 *   at: NumberArray | null, log: boolean, height: number, axes: string,
 * }} CurvesData
 */

/**
 * The box in which the curves are drawn.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number} sizes.height that the panel wants
 * @param {number} sizes.left room for the labels of the axis
 * @param {number | null} [sizes.room] height to fill; null: as the panel wants
 */
export const layout = ({ width, height: wanted, left, room = null }) => {
  const height = room ?? (width < 480 ? Math.min(wanted, 240) : wanted);
  return { height, box: { left, top: 8, right: width - 16, bottom: height - 40 } };
};

/**
 * The mean in a frame of those curves of a group that have a value there.
 * @param {Drawn[]} curves
 * @param {number} frame
 */
export const meanAt = (curves, frame) => {
  const there = curves.map(({ frames }) => frames[frame]).filter(Number.isFinite);
  return there.length ? there.reduce((a, b) => a + b, 0) / there.length : NaN;
};

/**
 * The numbers of a frame.
 * @param {CurvesData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => ({
  columns: [
    "curve",
    "step",
    panel.unit,
    ...(panel.smoothing ? ["smoothed"] : []),
    ...(panel.lines.some(({ raw }) => raw.margins) ? ["±"] : []),
  ],
  rows: panel.lines.map((line) => [
    line.label,
    line.measured[frame] ?? NaN,
    line.raw.frames[frame] ?? NaN,
    ...(line.smoothed ? [line.smoothed.frames[frame] ?? NaN] : []),
    ...(line.raw.margins ? [line.raw.margins[frame] ?? NaN] : []),
  ]),
});

const DIMMED = 0.25; // the opacity of curves beside one that is chosen

/** @param {Mark} mark */
export const said = ({ label, step, until }) =>
  until === null ? `${label} at step ${count(step)}` : `${label} from step ${count(step)} to ${count(until)}`;

/** @extends {Timeline<CurvesData>} */
export default class Curves extends Timeline {
  y = (/** @type {number} */ _value) => 0;
  low = 0;
  high = 1;

  /**
   * @param {CurvesData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    // A logarithmic scale has no place for negative values.
    const positive = panel.lines.every(({ raw }) => raw.values.every((value) => !(value < 0)));
    this.log = positive ? this.toggle("log", panel.log) : () => false;
    this.smooth = panel.smoothing ? this.toggle("smooth", true) : () => false;
    const names = [...new Set(panel.lines.map((line) => line.group))];
    this.hiding = this.option("hidden", [], names);
    this.keys = element("div", { class: "keys" });
    this.stage.before(this.keys);
    this.groups = new Map(
      names.map((name) => [name, { lines: panel.lines.filter((line) => line.group === name), ...this.key(name) }]),
    );
  }

  /** The value of each curve, or the mean of each group, at the cursor. */
  summary() {
    const shown = [...this.groups].filter(([name]) => !this.hidden(name));
    const mean = (/** @type {Line[]} */ lines) =>
      meanAt(
        lines.map((line) => this.shown(line)),
        this.player.index,
      );
    return `${this.panel.unit}: ${listed(shown.map(([name, { lines }]) => [name, mean(lines)]))}`;
  }

  /** @param {string} name of a group */
  hidden(name) {
    return this.hiding.get().includes(name);
  }

  /**
   * Add the entry of a group of curves to the legend. A click on it hides or shows them.
   * @param {string} name
   */
  key(name) {
    const value = element("b", {}, "–");
    const shown = !this.hidden(name);
    const swatch = element("i");
    const key = element("button", { class: "key", type: "button", "aria-pressed": shown }, swatch, name, value);
    key.onpointerenter = key.onfocus = () => (key.title = this.described(name));
    key.onclick = () => {
      const others = this.hiding.get().filter((/** @type {string} */ other) => other !== name);
      const hide = !this.hidden(name);
      this.hiding.set(hide ? [...others, name] : others);
      key.setAttribute("aria-pressed", String(!hide));
    };
    this.keys.append(key);
    return { swatch, value };
  }

  /** @param {Line} line */
  shown(line) {
    return (this.smooth() && line.smoothed) || line.raw;
  }

  /**
   * A group's value at the cursor, with all digits.
   * @param {string} name
   */
  described(name) {
    const lines = this.groups.get(name)?.lines ?? [];
    if (!lines[0].measured.length) return `${name}: nothing measured yet`;
    const frame = this.player.index;
    const mean = meanAt(
      lines.map((line) => this.shown(line)),
      frame,
    );
    const shown = within(mean, lines.length > 1 ? NaN : this.shown(lines[0]).margins?.[frame]);
    const raw = this.smooth()
      ? `, smoothed; as measured ${exact(
          meanAt(
            lines.map((line) => line.raw),
            frame,
          ),
        )}`
      : "";
    const many = lines.length > 1 ? `, mean of ${lines.length} curves` : "";
    return `${name}${many} at step ${count(lines[0].measured[frame])}: ${shown} ${this.panel.unit}${raw}`;
  }

  /** @param {Line} line */
  colour(line) {
    return line.strong ? this.theme.ink : this.theme.palette[line.colour % this.theme.palette.length];
  }

  /** @param {Line} line */
  dash(line) {
    const again = Math.floor(line.colour / this.theme.palette.length) % 3;
    return (
      line.dashed
        ? [
            [6, 4],
            [8, 2, 2, 2],
            [2, 2, 6, 2],
          ]
        : [[], [2, 3], [12, 3]]
    )[again];
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  layout() {
    const { panel, theme } = this;
    const { room, left } = this;
    const { height, box } = layout({ width: this.root.clientWidth, height: panel.height, left, room });
    if (!this.fit(height)) return;
    this.box = box;
    this.scales();
    const { base: context } = this;
    context.clearRect(0, 0, this.width, this.height);
    this.hatchGaps(context);
    this.axes(context);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top - BEYOND, box.right - box.left, box.bottom - box.top + 2 * BEYOND);
    context.clip();
    const { chosen } = this.player;
    const dims = this.groups.size > 1 && this.groups.has(chosen ?? ""); // the others
    for (const [name, { lines, swatch }] of this.groups) {
      const share = dims && name !== chosen ? DIMMED : 1;
      const dash = this.dash(lines[0]);
      const pattern = !dash.length ? "solid" : dash[0] > 2 ? "dashed" : "dotted";
      swatch.style.borderTop = `3px ${pattern} ${this.colour(lines[0])}`;
      if (this.hidden(name)) continue;
      const many = lines.length > 1;
      if (!many) this.around(context, lines[0]);
      for (const line of lines) {
        if (this.smooth() && !many) this.trace(context, line, line.raw, 0.14 * share, 1, []);
        const width = line.strong || (dims && name === chosen) ? 2.5 : many ? 1 : 2;
        this.trace(context, line, this.shown(line), many ? 0.5 * share : share, width, many ? [] : this.dash(line));
      }
    }
    context.restore();
    for (const { step, colour, until } of this.marks) {
      const ends = /** @type {[number, number | null]} */ ([this.x(step), until === null ? null : this.x(until)]);
      flag(context, theme.palette[colour % theme.palette.length], box, ...ends);
    }
    this.drawVeil(context);
  }

  /** The flags of the groups that are shown. */
  get marks() {
    return this.panel.marks.filter(({ group }) => !this.hidden(group));
  }

  /** The other panels that have the same axes. @returns {Curves[]} */
  get beside() {
    const { axes } = this.panel;
    return /** @type {Curves[]} */ (
      this.player.panels.filter(
        (other) => axes && other !== this && other instanceof Curves && other.panel.axes === axes,
      )
    );
  }

  scales() {
    const { panel, box } = this;
    if (!box) return;
    const log = this.log();
    const beside = this.beside.flatMap((other) => other.panel.lines);
    const shown = [...panel.lines.filter((line) => !this.hidden(line.group)), ...beside];
    const seen = shown.flatMap((line) => ends(this.shown(line)));
    [this.low, this.high] = limits(
      seen,
      panel.references.map(([, value]) => value),
      log,
    );
    const scale = log ? Math.log10 : (/** @type {number} */ value) => value;
    const [bottom, top] = [scale(this.low), scale(this.high)];
    this.y = (value) => box.bottom - ((scale(value) - bottom) / (top - bottom || 1)) * (box.bottom - box.top);
    const steps = this.beside.map((other) => other.steps);
    this.scaleSteps([...[...panel.lines, ...beside].map((line) => line.raw.steps), ...steps]);
  }

  /** @param {CanvasRenderingContext2D} context */
  axes(context) {
    const { box, theme, panel } = this;
    if (!box) return;
    context.lineWidth = 1;
    for (const value of this.log() ? decades(this.low, this.high) : ticks(this.low, this.high, 5)) {
      const y = this.rule(context, value, theme.line);
      this.write(context, tick(value), box.left - 8, y, { align: "right" });
    }
    this.stepAxis(context);
    if (panel.unit) this.write(context, `${panel.unit} ↑`, 0, box.bottom + 32);
    context.setLineDash([2, 4]);
    for (const [label, value] of panel.references) {
      if (this.log() && value <= this.low) continue;
      const y = this.rule(context, value, theme.soft);
      this.write(context, `${label} ${brief(value)}`, box.right - 4, y - 8, { align: "right" });
    }
    context.setLineDash([]);
  }

  /**
   * A horizontal line at a value; returns its y.
   * @param {CanvasRenderingContext2D} context
   * @param {number} value
   * @param {string} colour
   */
  rule(context, value, colour) {
    const y = Math.round(this.y(value)) + 0.5;
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(this.box?.left ?? 0, y);
    context.lineTo(this.box?.right ?? 0, y);
    context.stroke();
    return y;
  }

  /**
   * The interval around a curve.
   * @param {CanvasRenderingContext2D} context
   * @param {Line} line
   */
  around(context, line) {
    context.fillStyle = this.colour(line);
    // A logarithmic scale has no place for what is below its lowest value.
    const y = (/** @type {number} */ value) => this.y(this.log() ? Math.max(value, this.low) : value);
    wash(context, this.shown(line), this.x, y);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Line} line
   * @param {Drawn} drawn
   * @param {number} alpha
   * @param {number} width
   * @param {number[]} dash
   */
  trace(context, line, drawn, alpha, width, dash) {
    context.globalAlpha = alpha;
    context.strokeStyle = this.colour(line);
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(dash);
    trace(context, drawn, { x: this.x, y: this.y, log: this.log(), width });
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /**
   * The flag at the pointer, or else the curve nearest to it, with its value there.
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    if (!this.box || this.dragging) return null;
    const off = (/** @type {Mark} */ { step }) => Math.abs(this.x(step) - x);
    const flag = [...this.marks].sort((one, other) => off(one) - off(other))[0];
    if (flag && y < this.box.top + 8 && off(flag) < 7) return said(flag);
    const stretch = this.marks.find(({ step, until }) => until !== null && this.x(step) <= x && x <= this.x(until));
    if (stretch) return said(stretch);
    let least = 24;
    let found = null;
    for (const line of this.panel.lines) {
      if (this.hidden(line.group)) continue;
      const { steps, values, interval } = this.shown(line);
      const at = nearest(steps, this.stepAt(x));
      const off = Math.abs(this.y(values[at]) - y);
      if (!(off < least)) continue;
      least = off;
      found = `${line.label} at step ${count(steps[at])}: ${within(values[at], interval?.[at])} ${this.panel.unit}`;
    }
    return found;
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context } = this;
    context.clearRect(0, 0, this.width, this.height);
    const x = this.cursor(context);
    for (const [name, { lines, value: entry }] of this.groups) {
      const value = meanAt(
        lines.map((line) => this.shown(line)),
        this.player.index,
      );
      const text = brief(value);
      if (entry.textContent !== text) entry.textContent = text;
      if (this.hidden(name) || !Number.isFinite(value) || (this.log() && value <= 0)) continue;
      context.fillStyle = this.colour(lines[0]);
      context.beginPath();
      context.arc(x, this.y(value), 4, 0, TURN);
      context.fill();
    }
  }
}
