// The cells of a plane: where they and the curves beside them lie, and what is known of each.

import { before, clamp } from "./scales.js";
import { longest } from "./numbers.js";

/** @typedef {import("./types.d.ts").NumberArray} NumberArray */
/** @typedef {import("./types.d.ts").Box} Box */
/**
 * @typedef {{ name: string, labels: string[], log: boolean, places: number[], borders: number[] }} Axis see plane.py
 */
/**
 * @typedef {import("./types.d.ts").PanelData & {
 *   rows: Axis, columns: Axis, values: NumberArray, frames: NumberArray | null, kinds: string[], low: number,
 *   high: number, unit: string, scale: import("./types.d.ts").Scale, log_colour: boolean, agree: NumberArray | null,
 *   n: NumberArray | null, curves: NumberArray | null, lines: string[], points: NumberArray | null, curve_unit: string,
 *   threshold: number | null, runs: string[][],
 * }} PlaneData values and agree are (sent frame, row, column), curves (row, column, line, point)
 */

const HEAD = 28; // pixels above the cells and the curves, for the name of an axis and of the cell
const FOOT = 40; // below them, for labels and the name of an axis
const BESIDE = 680; // from this width on, the curves are beside the cells
const APART = 24; // between the cells and the curves
const GUTTER = 56; // left of the curves, for the labels of their axis
const WIDEST = 240; // of a cell
export const LABEL_GAP = 4; // between the labels of columns
const MOST_TURNED = 96; // the room for labels that are turned

/**
 * The ends of the cells along an axis, in whole pixels.
 * @param {Pick<Axis, "borders" | "log">} axis
 * @param {number} from where the first cell begins
 * @param {number} to where the last cell ends
 */
export const edges = (axis, from, to) => along(axis, axis.borders, from, to).map(Math.round);

/**
 * Where the values of an axis lie.
 * @param {Pick<Axis, "borders" | "places" | "log">} axis
 * @param {number} from
 * @param {number} to
 */
export const centres = (axis, from, to) => along(axis, axis.places, from, to);

/**
 * @param {Pick<Axis, "borders" | "log">} axis
 * @param {number[]} places
 * @param {number} from
 * @param {number} to
 */
const along = ({ borders, log }, places, from, to) => {
  const on = log ? Math.log : (/** @type {number} */ place) => place;
  const [first, last] = [on(borders[0]), on(borders[borders.length - 1])];
  return places.map((place) => from + ((on(place) - first) / (last - first)) * (to - from));
};

/** The least distance of two that follow each other. @param {number[]} places */
export const narrowest = (places) => Math.min(...places.slice(1).map((place, i) => Math.abs(place - places[i])));

/**
 * The boxes of the cells and of the curves.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number | null} [sizes.room] height to fill; null: as the panel likes
 * @param {number} [sizes.least] the least size of type
 * @param {Axis} sizes.rows
 * @param {Axis} sizes.columns
 * @param {boolean} sizes.curves whether there are any
 * @returns {{ height: number, cells: Box, curves: Box | null, foot: number, turned: boolean }} and the room below the
 *   cells, and whether the labels of columns are turned
 */
export const layout = ({ width, room = null, least = 0, rows, columns, curves }) => {
  const letter = 0.6 * Math.max(least, 13);
  const left = clamp(letter * longest(rows.labels) + 16, 28, 0.3 * width);
  const beside = curves && width >= BESIDE && rows.labels.length > 1;
  const half = beside ? (width - APART) / 2 : width;
  const right = Math.min(half - 8, left + WIDEST * columns.labels.length);
  const widest = letter * longest(columns.labels) + LABEL_GAP;
  const turned = longest(columns.labels) > 3 && widest > narrowest(centres(columns, left, right));
  const foot = FOOT + (turned ? clamp(widest - 16, 0, MOST_TURNED) : 0);
  const top = HEAD;
  const own = clamp(48 * rows.labels.length, 56, 440);
  const tall = (/** @type {number} */ high) => Math.max(high, 24);
  if (!curves || beside) {
    const bottom = top + (room === null ? Math.max(own, curves ? 260 : 0) : tall(room - top - foot));
    const box = { left: right + APART + GUTTER, top, right: width - 16, bottom };
    return { height: bottom + foot, cells: { left, top, right, bottom }, curves: curves ? box : null, foot, turned };
  }
  const under = room === null ? 200 : tall((room - 2 * top - foot - FOOT) * (rows.labels.length > 1 ? 0.45 : 0.7));
  const bottom = top + (room === null ? own : tall(room - 2 * top - foot - FOOT - under));
  const first = bottom + foot + top;
  const box = { left: Math.max(left, GUTTER), top: first, right: width - 16, bottom: first + under };
  return { height: box.bottom + FOOT, cells: { left, top, right, bottom }, curves: box, foot, turned };
};

/** @typedef {[row: number, column: number]} Cell */

/**
 * Reads what is known of the cells of a panel, of whose frames not all are sent (see plane.py).
 * @param {Pick<PlaneData, "values" | "frames" | "agree" | "n" | "curves" | "points" | "lines" | "columns">} panel
 */
export const finder = ({ values, frames, agree, n, curves, points, lines, columns }) => {
  const [, rows, across] = values.shape;
  const place = (/** @type {number} */ frame, /** @type {number} */ row, /** @type {number} */ column) =>
    ((frames ? frames[frame] : frame) * rows + row) * across + column;
  const curve = (/** @type {number} */ row, /** @type {number} */ column, /** @type {number} */ line) => {
    const first = ((row * columns.labels.length + column) * lines.length + line) * (points?.length ?? 0);
    const found = (curves ?? new Float32Array()).subarray(first, first + (points?.length ?? 0));
    return /** @type {NumberArray} */ (Object.assign(found, { shape: [found.length] }));
  };
  return {
    /** The values of all cells, row by row. @param {number} frame */
    values: (frame) => values.subarray(place(frame, 0, 0), place(frame, 0, 0) + rows * across),
    value: (/** @type {number} */ frame, /** @type {number} */ row, /** @type {number} */ column) =>
      values[place(frame, row, column)],
    /** How many seeds are as the value says; null: it is not known. */
    agree: (/** @type {number} */ frame, /** @type {number} */ row, /** @type {number} */ column) =>
      agree ? agree[place(frame, row, column)] : null,
    seeds: (/** @type {number} */ row, /** @type {number} */ column) => (n ? n[row * across + column] : 1),
    curve,
    /** A curve's value at the last point up to a step. */
    at: (
      /** @type {number} */ row,
      /** @type {number} */ column,
      /** @type {number} */ line,
      /** @type {number} */ step,
    ) => (points && step >= points[0] ? curve(row, column, line)[before(points, step)] : NaN),
    /** The first cell that has a value in any frame. @returns {[number, number]} */
    first: () => {
      for (let cell = 0; cell < rows * across; cell += 1) {
        for (let at = cell; at < values.length; at += rows * across)
          if (Number.isFinite(values[at])) return [Math.floor(cell / across), cell % across];
      }
      return [0, 0];
    },
  };
};
