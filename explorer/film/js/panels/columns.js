// Columns up or down from zero: a value for each category of one or several series.

import { CanvasPanel } from "../canvas.js";
import { element } from "../dom.js";
import { exact, fitting, longest, nth, oddly, tick } from "../numbers.js";
import { clamp, extent, ticks } from "../scales.js";

/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   categories: string[], series: string[], values: import("../types.d.ts").NumberArray, unit: string,
 *   category_axis: string, marked: number[], height: number,
 * }} ColumnsData values are (frame, series, category)
 */

/**
 * The places of the columns.
 * @param {{ width: number, height: number, categories: string[] }} sizes size of the panel, and the labels
 */
export const layout = ({ width, height, categories }) => {
  const n = categories.length;
  const label = longest(categories);
  const room = (width - 64) / n;
  const turned = room < 8 * label + 4 && label > 2;
  const foot = turned ? clamp(7 * label + 12, 24, 120) : 24;
  const pitch = Math.min(room, 96);
  return {
    turned,
    every: oddly((turned ? 13 : 8 * label + 6) / pitch), // only every n-th category has its label
    box: { left: 48, top: 8, right: 48 + n * pitch, bottom: height - foot - 18, pitch },
  };
};

/**
 * The ends of the vertical axis, which includes zero.
 * @param {Iterable<number>} values
 */
export const limits = (values) => {
  const [low, high] = extent(values, [0, 0]);
  const edge = (high - low) * 0.05 || 1;
  return [low < 0 ? low - edge : 0, high > 0 || !low ? high + edge : 0];
};

/**
 * The numbers of a frame.
 * @param {ColumnsData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = ({ categories, category_axis, series, values }, frame) => ({
  columns: [category_axis, ...series],
  rows: categories.map((name, c) => [
    name,
    ...series.map((_, s) => values[(frame * series.length + s) * categories.length + c]),
  ]),
});

/** @extends {CanvasPanel<ColumnsData>} */
export default class Columns extends CanvasPanel {
  box = /** @type {ReturnType<typeof layout>["box"] | null} */ (null);
  y = (/** @type {number} */ _value) => 0;
  low = 0;
  high = 1;

  /**
   * @param {ColumnsData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.swatches = panel.series.map(() => element("i"));
    const keys = panel.series.map((name, i) => element("span", { class: "key" }, this.swatches[i], name));
    if (keys.length > 1) this.stage.before(element("div", { class: "keys" }, ...keys));
    [this.low, this.high] = limits(panel.values);
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  layout() {
    const { panel, theme, low, high } = this;
    if (!this.fit(this.room ?? panel.height)) return;
    const { box, turned, every } = layout({ width: this.width, height: this.height, categories: panel.categories });
    this.box = box;
    const { base: context } = this;
    this.y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    context.clearRect(0, 0, this.width, this.height);
    context.lineWidth = 1;
    for (const value of ticks(low, high, 5)) {
      const y = Math.round(this.y(value)) + 0.5;
      context.strokeStyle = value === 0 ? theme.soft : theme.line;
      context.beginPath();
      context.moveTo(box.left, y);
      context.lineTo(box.right, y);
      context.stroke();
      this.write(context, tick(value), box.left - 8, y, { align: "right" });
    }
    panel.categories.forEach((name, c) => {
      const marked = panel.marked.includes(c);
      if (!marked && (c % every || panel.marked.some((other) => Math.abs(other - c) < every))) return;
      const isChosen = name === this.player.chosen;
      const style = marked || isChosen ? { weight: 700, colour: isChosen ? theme.cursor : theme.ink } : {};
      const x = box.left + (c + 0.5) * box.pitch;
      if (turned)
        this.write(context, fitting(name, 108), x, box.bottom + 8, { align: "right", size: 12, turned, ...style });
      else this.write(context, name, x, box.bottom + 14, { align: "center", ...style });
    });
    this.write(context, `${panel.unit} ↑   ${panel.category_axis}${nth(every)} →`, box.left, this.height - 6);
    this.swatches.forEach((swatch, i) => (swatch.style.borderTop = `3px solid ${this.colour(i)}`));
  }

  /** @param {number} series */
  colour(series) {
    return this.theme.palette[series % this.theme.palette.length];
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, panel, box } = this;
    const [series, categories] = [panel.series.length, panel.categories.length];
    const inner = box.pitch > 6 ? box.pitch * 0.8 : box.pitch;
    const width = inner / series;
    context.clearRect(0, 0, this.width, this.height);
    if (this.isGap) {
      this.drawGap(context, [{ x: box.left, y: box.top, w: box.right - box.left, h: box.bottom - box.top }]);
    }
    for (let s = 0; s < series; s += 1) {
      for (let c = 0; c < categories; c += 1) {
        const value = panel.values[(this.player.index * series + s) * categories + c];
        if (!Number.isFinite(value)) continue;
        context.fillStyle = this.colour(series > 1 ? s : value < 0 ? 1 : 0);
        const [from, to] = [this.y(0), this.y(value)];
        const x = box.left + (c + 0.5) * box.pitch - inner / 2 + s * width;
        context.fillRect(x, Math.min(from, to), Math.max(width - (width > 4 ? 1 : 0), 0.5), Math.abs(to - from));
      }
    }
    if (this.pointer) this.retip();
  }

  /** @param {number} x */
  under(x) {
    const { box, panel } = this;
    if (!box) return null;
    const category = Math.floor((x - box.left) / box.pitch);
    if (category < 0 || category >= panel.categories.length) return null;
    const [name, ...values] = table(panel, this.player.index).rows[category];
    const texts = values.map((value, s) => (values.length > 1 ? `${panel.series[s]} ` : "") + exact(Number(value)));
    return `${panel.category_axis} ${name}: ${texts.join(", ")} ${panel.unit}`;
  }
}
