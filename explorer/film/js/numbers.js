// Numbers and labels as text.

const thousands = new Intl.NumberFormat("en-US");

/** @param {number} n */
export const count = (n) => thousands.format(n);

/**
 * The size of a file.
 * @param {number} bytes
 */
export const sizeText = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/**
 * A value in a legend.
 * @param {number} x
 */
export const brief = (x) => {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  return size !== 0 && size < 0.001 ? x.toExponential(1) : size < 100 ? x.toFixed(3) : x.toPrecision(4);
};

/**
 * The value under the pointer, with all the digits of a 32-bit float.
 * @param {number} x
 */
export const exact = (x) => (Number.isFinite(x) ? String(Number(x.toPrecision(7))) : "no value");

/**
 * The label of a tick.
 * @param {number} x
 */
export const tick = (x) => (x !== 0 && Math.abs(x) < 0.01 ? x.toExponential(1) : String(Number(x.toPrecision(3))));

const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

/**
 * A value where there is little room: at most three digits.
 * @param {number} x
 */
export const short = (x) =>
  x !== 0 && Math.abs(x) < 0.001 ? Number(x.toPrecision(2)).toExponential() : compact.format(x);

/**
 * A label, cut if it is wider than a width in pixels.
 * @param {string} label
 * @param {number} width
 * @param {number} [letter] the width of a letter
 */
export const fitting = (label, width, letter = 6) =>
  label.length * letter <= width ? label : `${label.slice(0, Math.max(2, Math.floor(width / letter) - 1))}…`;

/**
 * The number of characters of the longest label.
 * @param {string[]} labels
 */
export const longest = (labels) => Math.max(0, ...labels.map((label) => label.length));

/**
 * How many things share one label, if each label needs the room of so many. It is odd: where two kinds alternate, as
 * cosine and sine do, both are named.
 * @param {number} n
 */
export const oddly = (n) => Math.max(1, Math.ceil(n)) | 1;

/**
 * Says on an axis that not everything has its label.
 * @param {number} every how many things share one label
 */
export const nth = (every) => (every > 1 ? ` (1 in ${every} named)` : "");
