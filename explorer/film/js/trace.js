// The line of a curve, with a gap where it has no value.

/** @typedef {import("./types.d.ts").NumberArray} NumberArray */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {{ steps: NumberArray, values: NumberArray }} curve
 * @param {object} scales
 * @param {(step: number) => number} scales.x
 * @param {(value: number) => number} scales.y
 * @param {boolean} scales.log
 * @param {number} scales.width of the line
 */
export const trace = (context, { steps, values }, { x: atStep, y: atValue, log, width }) => {
  context.beginPath();
  let pen = false;
  let [lastX, lastY] = [0, 0];
  const isDrawn = (/** @type {number} */ i) => Number.isFinite(values[i]) && !(log && values[i] <= 0);
  for (let i = 0; i < values.length; i += 1) {
    const drawable = isDrawn(i);
    if (drawable) {
      const [x, y] = [atStep(steps[i]), atValue(values[i])];
      if (!pen && !isDrawn(i + 1)) context.rect(x - width / 2, y, width, 0); // a point between two gaps
      // A point so close to the last one cannot be seen; leaving it out makes drawing faster.
      if (pen && i + 1 < values.length && x - lastX < 1 && Math.abs(y - lastY) < 0.5) continue;
      context[pen ? "lineTo" : "moveTo"](x, y);
      [lastX, lastY] = [x, y];
    }
    pen = drawable;
  }
  context.stroke();
};
