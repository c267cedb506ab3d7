// Tables of numbers as CSV (RFC 4180).

/** @typedef {import("./types.d.ts").Table} Table */

const SAMPLED = 1000; // rows, from which the size of a file is reckoned
const FORMULA = /^[=+\-@\t\r]/; // a spreadsheet would run a cell that begins so

/**
 * A cell. A number has all the digits of a 32-bit float, and is empty if it is not finite.
 * @param {string | number} value
 */
export const cell = (value) => {
  if (typeof value === "number") return Number.isFinite(value) ? String(Number(value.toPrecision(9))) : "";
  const isNumber = value.trim() !== "" && Number.isFinite(Number(value));
  const text = FORMULA.test(value) && !isNumber ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

/** @param {(string | number)[]} cells */
const line = (cells) => `${cells.map(cell).join(",")}\r\n`;

/** @param {Table} table */
export const csv = ({ columns, rows }) => [columns, ...rows].map(line).join("");

/**
 * The tables of all frames below each other, after a column with the step of the frame.
 * @param {number[]} steps of the frames
 * @param {(frame: number) => Table} table
 * @returns {string[]} the header, and the lines of each frame
 */
export const csvOfAll = (steps, table) => {
  // A curve that is measured at other steps than the snapshots' has a column of its own for them.
  const columns = table(0).columns.map((name) => (name === "step" ? "measured at step" : name));
  const linesOf = (/** @type {number} */ step, /** @type {number} */ frame) =>
    table(frame).rows.map((row) => line([step, ...row]));
  return [line(["step", ...columns]), ...steps.map((step, frame) => linesOf(step, frame).join(""))];
};

/**
 * About how many bytes the numbers of a frame take, or those of all frames.
 * @param {Table} table of one frame
 * @param {number[] | null} [steps] of all frames; null: of this frame only
 */
export const csvSize = ({ columns, rows }, steps = null) => {
  const every = Math.ceil(rows.length / SAMPLED);
  const some = { columns, rows: rows.filter((_, i) => i % every === 0) };
  const text = steps ? csvOfAll([steps[steps.length >> 1]], () => some) : [csv(some)];
  return (new Blob(text).size * rows.length * (steps?.length ?? 1)) / Math.max(1, some.rows.length);
};
