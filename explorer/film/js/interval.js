// Values that are known within an interval: its ends, its text, and its drawing.

import { exact } from "./numbers.js";

/** @typedef {import("./types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {object} Measured
 * @property {NumberArray} steps
 * @property {NumberArray} values
 * @property {NumberArray} [interval] how far the truth may be from each value, on either side
 */

/**
 * The ends of the interval around each value; the values themselves if they have none.
 * @param {Measured} drawn
 * @returns {(number[] | NumberArray)[]}
 */
export const ends = ({ values, interval }) => {
  if (!interval) return [values];
  const shifted = (/** @type {number} */ sign) => Array.from(values, (value, i) => value + sign * interval[i]);
  return [shifted(-1), shifted(1)];
};

/**
 * A value with its interval, as text.
 * @param {number} value
 * @param {number} [margin]
 */
export const within = (value, margin = NaN) =>
  Number.isFinite(value) && Number.isFinite(margin)
    ? `${exact(value)} ± ${Number(margin.toPrecision(2))}`
    : exact(value);

/**
 * Draw the interval around a curve.
 * @param {CanvasRenderingContext2D} context with the colour of the curve
 * @param {Measured} drawn
 * @param {(step: number) => number} x
 * @param {(value: number) => number} y
 */
export const wash = (context, drawn, x, y) => {
  const [low, high] = ends(drawn);
  if (!high) return;
  context.globalAlpha = 0.16;
  let from = 0;
  for (let to = 0; to <= low.length; to += 1) {
    if (to < low.length && Number.isFinite(low[to])) continue;
    context.beginPath();
    for (let i = from; i < to; i += 1) context.lineTo(x(drawn.steps[i]), y(high[i]));
    for (let i = to - 1; i >= from; i -= 1) context.lineTo(x(drawn.steps[i]), y(low[i]));
    context.fill();
    from = to + 1; // a gap ends a band
  }
  context.globalAlpha = 1;
};
