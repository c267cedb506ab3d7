// When each loss fell: a mark for each seed, hollow until the film has reached it, over their median and its interval.

import { element } from "../dom.js";
import { count, fitting, longest } from "../numbers.js";
import { TURN, clamp } from "../scales.js";
import { Timeline } from "../timeline.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   rows: string[], groups: string[], marks: NumberArray, names: string[][], median: NumberArray, low: NumberArray,
 *   high: NumberArray, middle: string, interval: string, log: boolean,
 * }} StripData marks are (group, row, mark); median, low and high are (group, row)
 */
/** @typedef {{ group: number, row: number }} Lane the marks of a group in a row */

const BETWEEN = 10; // pixels between rows
const NARROW = 0.4; // of the panel's width, that labels may take
const LETTER = 8; // pixels of a label
const RADIUS = /** @type {[number, number]} */ ([2, 4.5]); // of a mark
const LEAST_WHERE_ROOM = 3; // of a mark in a lane that is not narrow

/**
 * The box of the rows and the lanes in it.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number} sizes.left room for the labels
 * @param {number} sizes.rows
 * @param {number} sizes.groups
 * @param {number | null} [sizes.room] height to fill; null: as the rows need
 */
export const layout = ({ width, left, rows, groups, room = null }) => {
  const own = groups * clamp(Math.round(320 / (rows * groups)), 14, 40) + BETWEEN;
  const pitch = room === null ? own : Math.max(room - 48, rows * 8) / rows;
  const lane = (pitch - Math.min(BETWEEN, pitch / 4)) / groups;
  const bottom = 8 + pitch * rows;
  /** @param {Lane} lane @returns {number} the middle of a lane */
  const middle = ({ group, row }) => 8 + (row + 0.5) * pitch + (group + 0.5 - groups / 2) * lane;
  return { height: bottom + 40, pitch, lane, middle, box: { left, top: 8, right: width - 16, bottom } };
};

/**
 * The size of marks: as large as they can be without lying on each other, if that is large enough to be seen.
 * @param {number[][]} lanes the places of the marks in each
 * @param {number} lane the height in which they lie
 */
export const radiusOf = (lanes, lane) => {
  const largest = clamp(lane / 7, ...RADIUS);
  const least = Math.min(largest, LEAST_WHERE_ROOM);
  for (let radius = largest; radius > least; radius -= 0.5)
    if (lanes.every((xs) => swarm(xs, radius, lane).isFree)) return radius;
  return least;
};

/**
 * How far each mark lies above or below the middle of its lane, so that no mark lies on another while there is room.
 * @param {number[]} xs of the marks; not finite: no mark
 * @param {number} radius
 * @param {number} lane the height in which they lie
 */
export const swarm = (xs, radius, lane) => {
  const apart = 2 * radius + 1;
  const n = Math.max(1, Math.floor((lane - 2 * radius) / 2 / apart) * 2 + 1);
  const levels = Array.from({ length: n }, (_, i) => ({
    off: (i % 2 ? 1 : -1) * Math.ceil(i / 2) * apart || 0,
    end: -Infinity,
  }));
  const offs = xs.map(() => 0);
  let isFree = true;
  const order = xs.map((_, i) => i).filter((i) => Number.isFinite(xs[i]));
  for (const i of order.sort((a, b) => xs[a] - xs[b])) {
    const free = levels.find(({ end }) => xs[i] - end >= apart);
    isFree &&= Boolean(free);
    const level = free ?? levels.reduce((one, other) => (other.end < one.end ? other : one));
    [offs[i], level.end] = [level.off, xs[i]];
  }
  return { offs, isFree };
};

/**
 * Reads the values of a panel.
 * @param {Pick<StripData, "marks" | "names" | "rows" | "median" | "low" | "high">} panel
 */
export const finder = ({ marks, names, rows, median, low, high }) => {
  const [, , n] = marks.shape;
  const steps = (/** @type {Lane} */ { group, row }) => {
    const first = (group * rows.length + row) * n;
    return [...marks.subarray(first, first + n)];
  };
  return {
    steps,
    /** How many marks of a lane are reached at a step. @param {Lane} lane @param {number} step */
    reached: (lane, step) => steps(lane).filter((mark) => mark <= step).length,
    /** How many marks a lane has, also those that never come. @param {Lane} lane */
    all: ({ group }) => names[group].filter(Boolean).length,
    /** The median of a lane and the ends of its interval. @param {Lane} lane */
    middle: ({ group, row }) => [median, low, high].map((values) => values[group * rows.length + row]),
  };
};

/** The lanes of a panel. @param {Pick<StripData, "rows" | "groups">} panel @returns {Lane[]} */
const lanesOf = ({ rows, groups }) => rows.flatMap((_, row) => groups.map((__, group) => ({ group, row })));

/**
 * The numbers of a frame: a row for each mark, and for each median and the ends of its interval.
 * @param {StripData} panel
 * @param {number} step of the frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, step) => {
  const find = finder(panel);
  const rows = lanesOf(panel).flatMap((lane) => {
    const place = [panel.rows[lane.row], panel.groups[lane.group]];
    const marks = find.steps(lane).map((mark, i) => [panel.names[lane.group][i], mark, mark <= step ? "yes" : "no"]);
    const ends = find
      .middle(lane)
      .map((value, i) => [["median", "low", "high"][i], value, value <= step ? "yes" : "no"]);
    return [...marks.filter(([name]) => name), ...ends].map((row) => [...place, ...row]);
  });
  return { columns: ["row", "group", "what", "step", "reached"], rows };
};

/** @extends {Timeline<StripData>} */
export default class Strip extends Timeline {
  at = /** @type {ReturnType<typeof layout> | null} */ (null);
  radius = RADIUS[1];
  places = /** @type {{ lane: Lane, mark: number, step: number, x: number, y: number }[]} */ ([]);

  /**
   * @param {StripData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.find = finder(panel);
    this.lanes = lanesOf(panel);
    this.logSteps = panel.log;
    const most = Math.max(...panel.groups.map((_, group) => this.find.all({ group, row: 0 })));
    this.tally = most > 1 ? LETTER * (2 * String(most).length + 1) + 8 : 0;
    this.gutter = clamp(LETTER * longest(panel.rows) + this.tally + 16, 56, 280);
    this.keys =
      panel.groups.length > 1 ? panel.groups.map((name) => element("span", { class: "key" }, element("i"), name)) : [];
    if (this.keys.length) this.stage.before(element("div", { class: "keys" }, ...this.keys));
    const isKnown = panel.median.some(Number.isFinite);
    if (isKnown) this.tools.append(element("span", {}, `line: ${panel.middle}; bar: ${panel.interval}`));
  }

  /** Less where the panel is narrow: labels are cut. */
  get margin() {
    return Math.min(this.gutter, NARROW * this.root.clientWidth);
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, this.steps[frame]);
  }

  summary() {
    return this.lanes.map((lane) => this.said(lane, this.player.here)).join("; ");
  }

  /**
   * How many marks of a lane are reached, and its median.
   * @param {Lane} lane
   * @param {number} step
   */
  said(lane, step) {
    const [median, low, high] = this.find.middle(lane);
    const ends =
      Number.isFinite(low) && Number.isFinite(high) ? `, ${this.panel.interval} ${shown(low)} to ${shown(high)}` : "";
    const middle = Number.isFinite(median) ? `${this.panel.middle} ${shown(median)}${ends}` : "";
    if (!this.tally) return `${this.named(lane)}: ${middle || "never"}`;
    return `${this.named(lane)}: ${this.find.reached(lane, step)} of ${this.find.all(lane)} by step ${count(step)}${middle && `; ${middle}`}`;
  }

  /** @param {Lane} lane */
  named({ group, row }) {
    const { rows, groups } = this.panel;
    return groups.length > 1 ? `${rows[row]}, ${groups[group]}` : rows[row];
  }

  /** @param {Lane} lane */
  colour({ group }) {
    return this.theme.palette[group];
  }

  layout() {
    const { panel, theme, room, left } = this;
    const { rows, groups } = panel;
    this.at = layout({ width: this.root.clientWidth, left, rows: rows.length, groups: groups.length, room });
    if (!this.fit(this.at.height)) return;
    const { base: context, at } = this;
    const { box, pitch, lane: height } = at;
    this.box = box;
    const ends = [panel.marks, panel.low, panel.high].flatMap((steps) => [...steps].filter(Number.isFinite));
    this.scaleSteps(
      ends.length ? [[ends.reduce((a, b) => Math.min(a, b)), ends.reduce((a, b) => Math.max(a, b))]] : [],
    );
    this.keys.forEach((key, group) => {
      const swatch = /** @type {HTMLElement} */ (key.firstElementChild);
      swatch.style.background = this.colour({ group, row: 0 });
    });
    context.clearRect(0, 0, this.width, this.height);
    const every = Math.ceil(Math.max(13, this.least) / pitch);
    rows.forEach((label, r) => {
      const y = box.top + r * pitch;
      context.fillStyle = theme.line;
      if (r) context.fillRect(box.left, Math.round(y), box.right - box.left, 1);
      const style = /** @type {const} */ ({ align: "right", colour: theme.ink });
      const right = box.left - 16 - this.tally;
      if (r % every === 0) this.write(context, fitting(label, right, LETTER - 1), right, y + pitch / 2, style);
    });
    const all = this.lanes.map((lane) => this.find.steps(lane).map(this.x));
    this.radius = radiusOf(all, height);
    this.places = this.lanes.flatMap((lane, i) => {
      const steps = this.find.steps(lane);
      const xs = all[i];
      const { offs } = swarm(xs, this.radius, height);
      const y = at.middle(lane);
      return steps.map((step, mark) => ({ lane, mark, step, x: xs[mark], y: y + offs[mark] }));
    });
    this.places = this.places.filter(({ step }) => Number.isFinite(step));
    for (const lane of this.lanes) this.drawInterval(context, lane);
    for (const group of groups.keys()) this.drawMarks(context, group, false);
    this.drawVeil(context);
    this.stepAxis(context);
  }

  /**
   * The interval of a lane's median.
   * @param {CanvasRenderingContext2D} context
   * @param {Lane} lane
   */
  drawInterval(context, lane) {
    if (!this.at) return;
    const [, low, high] = this.find.middle(lane);
    const [y, h] = [this.at.middle(lane), this.at.lane - 2];
    context.fillStyle = this.colour(lane);
    context.globalAlpha = 0.22;
    if (Number.isFinite(low) && Number.isFinite(high))
      context.fillRect(this.x(low), y - h / 2, Math.max(1, this.x(high) - this.x(low)), h);
    context.globalAlpha = 1;
  }

  /**
   * The median of a lane, over its marks.
   * @param {CanvasRenderingContext2D} context
   * @param {Lane} lane
   */
  drawMedian(context, lane) {
    if (!this.at) return;
    const x = this.x(this.find.middle(lane)[0]);
    if (!Number.isFinite(x) || this.isVeiled(x)) return;
    const [y, h] = [this.at.middle(lane), this.at.lane];
    context.fillStyle = this.theme.paper;
    context.fillRect(x - 1.5, y - h / 2, 3, h);
    context.fillStyle = this.theme.ink;
    context.fillRect(x - 1, y - h / 2, 2, h);
  }

  /**
   * The marks of a group: all of them hollow, or those that are reached.
   * @param {CanvasRenderingContext2D} context
   * @param {number} group
   * @param {boolean} isReached
   */
  drawMarks(context, group, isReached) {
    const { cursorStep, theme } = this;
    const radius = this.radius - (isReached ? 0 : 0.75);
    context.beginPath();
    for (const { lane, step, x, y } of this.places) {
      if (lane.group !== group || (isReached && step > cursorStep)) continue;
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, TURN);
    }
    context.fillStyle = isReached ? this.colour({ group, row: 0 }) : theme.paper;
    context.fill();
    context.strokeStyle = isReached ? theme.paper : this.colour({ group, row: 0 });
    context.lineWidth = isReached ? 0.5 : 1.5;
    context.globalAlpha = isReached ? 1 : 0.55;
    context.stroke();
    context.globalAlpha = 1;
  }

  live() {
    if (!this.top || !this.at || !this.box) return;
    const { top: context, at, box, panel } = this;
    context.clearRect(0, 0, this.width, this.height);
    for (const group of panel.groups.keys()) this.drawMarks(context, group, true);
    for (const lane of this.lanes) this.drawMedian(context, lane);
    const step = this.cursorStep;
    const type = Math.max(13, this.least);
    const every = Math.ceil(type / (at.lane + 1));
    for (const lane of this.tally ? this.lanes : []) {
      if ((lane.row * panel.groups.length + lane.group) % every) continue;
      const text = `${this.find.reached(lane, step)}/${this.find.all(lane)}`;
      this.write(context, text, box.left - 8, at.middle(lane), { align: "right" });
    }
    this.cursor(context);
    if (this.pointer) this.retip();
  }

  /**
   * The mark at the pointer, or else what is known of its lane.
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const { at, box, panel } = this;
    if (!at || !box || this.dragging || y < box.top || y >= box.bottom || x > box.right + 8) return null;
    const off = (/** @type {{ x: number, y: number }} */ place) => Math.hypot(place.x - x, place.y - y);
    const nearest = this.places.reduce((one, other) => (off(other) < off(one) ? other : one), this.places[0]);
    if (nearest && off(nearest) <= this.radius + 3)
      return `${this.named(nearest.lane)}: ${panel.names[nearest.lane.group][nearest.mark]} at step ${count(nearest.step)}`;
    const apart = (/** @type {Lane} */ lane) => Math.abs(at.middle(lane) - y);
    const lane = this.lanes.reduce((one, other) => (apart(other) < apart(one) ? other : one));
    return this.said(lane, this.player.here);
  }
}

/** A step, which may lie between two. @param {number} step */
const shown = (step) => count(Math.round(step));
