// Search in ascending arrays, and the ticks of axes.

export const TURN = 2 * Math.PI; // a whole circle, also in SVG, where a larger angle is what it is beyond a turn

/**
 * @param {number} x
 * @param {number} low
 * @param {number} high
 */
export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/**
 * The place of the last entry of an ascending array that is at most x; 0 if there is none.
 * @param {ArrayLike<number>} array
 * @param {number} x
 */
export const before = (array, x) => {
  let low = 0;
  let high = array.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (array[middle] <= x) low = middle;
    else high = middle - 1;
  }
  return low;
};

/**
 * The place of the entry of an ascending array that is nearest to x; of two, the first.
 * @param {ArrayLike<number>} array
 * @param {number} x
 */
export const nearest = (array, x) => {
  const i = before(array, x);
  return i + 1 < array.length && array[i + 1] - x < x - array[i] ? i + 1 : i;
};

/**
 * The lowest and the highest of the finite values and of `ends`.
 * @param {Iterable<number>} values
 * @param {[number, number]} [ends]
 * @returns {[number, number]} Infinity and -Infinity if there are none
 */
export const extent = (values, [low, high] = [Infinity, -Infinity]) => {
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
};

/**
 * Round values at even distances.
 * @param {number} low
 * @param {number} high
 * @param {number} wanted about how many
 */
export const ticks = (low, high, wanted) => {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = ([1, 2, 5].find((factor) => factor * power >= raw) ?? 10) * power;
  const out = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k += 1) out.push(k * step + 0); // not -0
  return out;
};

/**
 * The places of labels that do not lie on each other, from the first on.
 * @param {number[]} centres ascending
 * @param {number} size the room that each label needs
 */
export const apart = (centres, size) => {
  let end = -Infinity;
  return centres.flatMap((centre, i) => {
    if (centre - size / 2 < end) return [];
    end = centre + size / 2;
    return [i];
  });
};

/**
 * Powers of ten between two ends, at most about seven.
 * @param {number} low
 * @param {number} high
 */
export const decades = (low, high) => {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high))];
  const every = Math.max(1, Math.ceil((last - first) / 6));
  const out = [];
  for (let k = first; k <= last; k += every) out.push(10 ** k);
  return out;
};

/**
 * The ends of the vertical axis.
 * @param {Iterable<number>[]} curves
 * @param {number[]} references
 * @param {boolean} log
 */
export const limits = (curves, references, log) => {
  /** @type {[number, number]} */
  let ends = [Infinity, -Infinity];
  for (const values of curves) {
    for (const value of values) {
      if (!Number.isFinite(value) || (log && value <= 0)) continue;
      if (value < ends[0]) ends[0] = value;
      if (value > ends[1]) ends[1] = value;
    }
  }
  if (!(ends[0] <= ends[1])) ends = [0, 1];
  const high = Math.max(ends[1], ...references.filter((value) => value > 0));
  if (log) return [Math.max(ends[0], high * 1e-10), high * 1.3];
  return [Math.min(0, ends[0] * 1.05), Math.max(0, high * 1.05)];
};
