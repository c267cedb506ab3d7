// A probability for each category in each group, and the most probable category.

import { CanvasPanel } from "../canvas.js";
import { exact, fitting, longest } from "../numbers.js";
import { clamp } from "../scales.js";

/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   values: import("../types.d.ts").NumberArray, groups: string[], categories: string[] | string[][],
 *   targets: number[], predicted: string[][],
 * }} BarsData values are (frame, group, category)
 */

/**
 * The categories of each group: its own, or the same for all.
 * @param {Pick<BarsData, "categories" | "groups">} panel
 * @returns {string[][]}
 */
export const labelsOf = ({ categories, groups }) =>
  Array.isArray(categories[0])
    ? /** @type {string[][]} */ (categories)
    : groups.map(() => /** @type {string[]} */ (categories));

/**
 * The places of the groups. If groups have their own labels, these are drawn left of each, otherwise left of the first.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number} sizes.groups
 * @param {string[][]} sizes.labels
 * @param {boolean} sizes.own
 * @param {number | null} [sizes.room] height to fill; null: as the rows need
 */
export const layout = ({ width, groups, labels, own, room = null }) => {
  const left = 14 + 9 * longest(labels.flat());
  const categories = labels[0].length;
  const rowHeight = room === null ? clamp(240 / categories, 12, 24) : (room - 64) / categories;
  const pitch = Math.min((width - (own ? 0 : left)) / groups, own ? 240 : 160);
  const box = { left, top: 56, rowHeight, pitch, cell: pitch - 12 - (own ? left : 0) };
  return { height: box.top + rowHeight * categories + 8, box };
};

/**
 * The numbers of a frame.
 * @param {BarsData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => ({
  columns: ["group", "category", "probability", "right"],
  rows: labelsOf(panel).flatMap((labels, g) =>
    labels.map((label, c) => {
      const value = panel.values[(frame * panel.groups.length + g) * labels.length + c];
      return [panel.groups[g], label, value, panel.targets[g] === c ? "yes" : "no"];
    }),
  ),
});

/** @extends {CanvasPanel<BarsData>} */
export default class Bars extends CanvasPanel {
  box = /** @type {ReturnType<typeof layout>["box"] | null} */ (null);

  /**
   * @param {BarsData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.labels = labelsOf(panel);
    this.own = Array.isArray(panel.categories[0]);
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  layout() {
    const { panel, theme, labels, own } = this;
    const groups = panel.groups.length;
    const { height, box } = layout({ width: this.root.clientWidth, groups, labels, own, room: this.room });
    if (!this.fit(height)) return;
    this.box = box;
    const { base: context } = this;
    const rowAt = (/** @type {number} */ category) => box.top + (category + 0.5) * box.rowHeight;
    context.clearRect(0, 0, this.width, this.height);
    labels.slice(0, own ? groups : 1).forEach((names, g) => {
      names.forEach((label, c) => {
        this.write(context, label, box.left + g * box.pitch - 8, rowAt(c), { align: "right" });
      });
    });
    panel.groups.forEach((label, g) => {
      const x = box.left + g * box.pitch;
      const size = box.cell < 88 ? 12 : 13;
      const letter = this.textWidth(context, label, size) / Math.max(1, label.length);
      this.write(context, fitting(label, box.pitch - 4, letter), x, 10, { size });
      context.fillStyle = theme.wash;
      labels[g].forEach((_, c) => {
        context.fillRect(x, box.top + c * box.rowHeight + 1, box.cell, box.rowHeight - 2);
      });
      context.strokeStyle = theme.ink;
      context.lineWidth = 1.5;
      context.strokeRect(x - 1, box.top + panel.targets[g] * box.rowHeight, box.cell + 2, box.rowHeight);
    });
  }

  /** The most probable category of each group, and the right one where it is another. */
  summary() {
    const { panel, labels } = this;
    const said = labels.map((names, g) => {
      const first = (this.player.index * labels.length + g) * names.length;
      const values = panel.values.subarray(first, first + names.length);
      const best = panel.predicted.length
        ? panel.predicted[this.player.index][g]
        : names[values.indexOf(Math.max(...values))];
      const right = names[panel.targets[g]];
      return `${panel.groups[g]} ${best}, ${best === right ? "right" : `wrong: it is ${right}`}`;
    });
    return said.join("; ");
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, box, labels } = this;
    context.clearRect(0, 0, this.width, this.height);
    const areas = labels.map((names, g) => ({
      x: box.left + g * box.pitch - 3, // with the frame of the right category
      y: box.top - 2,
      w: box.cell + 6,
      h: names.length * box.rowHeight + 4,
    }));
    if (this.isGap) this.drawGap(context, areas);
    else this.bars(context, box, areas);
    if (this.pointer) this.retip();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {ReturnType<typeof layout>["box"]} box
   * @param {import("../canvas.js").Area[]} areas one for each group
   */
  bars(context, box, areas) {
    const { panel, theme, labels } = this;
    labels.forEach((names, g) => {
      const first = (this.player.index * labels.length + g) * names.length;
      const values = panel.values.subarray(first, first + names.length);
      const x = box.left + g * box.pitch;
      if (values.some(Number.isNaN)) {
        this.hatch(context, areas[g]);
        return;
      }
      // Where some categories are not shown, the most probable may be one of those: the film names it.
      const named = panel.predicted.length ? panel.predicted[this.player.index][g] : null;
      const best = named === null ? values.indexOf(Math.max(...values)) : names.indexOf(named);
      const predicted = named ?? names[best];
      const right = best === panel.targets[g];
      const colour = right ? theme.right : theme.wrong;
      values.forEach((value, c) => {
        context.fillStyle = c === best ? colour : theme.soft;
        const length = box.cell * value;
        if (length >= 0.5) context.fillRect(x, box.top + c * box.rowHeight + 1, length, box.rowHeight - 2);
      });
      this.write(context, `${predicted} ${right ? "✓" : "✗"}`, x, 36, { size: 22, weight: 600, colour });
      if (box.cell > 96 && best >= 0) {
        this.write(context, `${(100 * values[best]).toFixed(0)} %`, x + box.cell, 37, { align: "right" });
      }
    });
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const { box, panel, labels } = this;
    if (!box) return null;
    const group = Math.floor((x - box.left) / box.pitch);
    const category = Math.floor((y - box.top) / box.rowHeight);
    const label = labels[group]?.[category];
    if (label === undefined) return null;
    const value = panel.values[(this.player.index * labels.length + group) * labels[group].length + category];
    return `${panel.groups[group]}: ${label} with probability ${exact(100 * value)} %`;
  }
}
