// The numbers of a frame in a few words, for who listens.

import { brief } from "./numbers.js";

/** @typedef {import("./types.d.ts").Table} Table */

const MOST_LISTED = 8; // numbers up to this many are all said, of more only the largest

/**
 * Names with their values.
 * @param {[string, number][]} pairs
 */
export const listed = (pairs) => {
  const said = pairs
    .slice(0, MOST_LISTED)
    .map(([name, value]) => `${name} ${Number.isFinite(value) ? brief(value) : "without value"}`);
  const rest = pairs.length - said.length;
  return said.join(", ") + (rest > 0 ? ` and ${rest} more` : "");
};

/**
 * The labels of a row: its texts.
 * @param {(string | number)[]} row
 */
const labels = (row) => row.filter((value) => typeof value === "string").join(" ");

/**
 * The values of a table if there are few, otherwise the largest of each column of numbers.
 * @param {Table} table
 * @returns {string}
 */
export const spoken = ({ columns, rows }) => {
  const numeric = columns.map((_, c) => c).filter((c) => rows.some((row) => typeof row[c] === "number"));
  if (!rows.length) return "no values";
  if (!numeric.length) return rows.map(labels).join("; ");
  if (numeric.length === 1 && rows.length <= MOST_LISTED) {
    return `${columns[numeric[0]]}: ${listed(rows.map((row) => [labels(row), Number(row[numeric[0]])]))}`;
  }
  const largest = numeric.flatMap((c) => {
    let best = /** @type {(string | number)[] | null} */ (null);
    for (const row of rows) if (Number.isFinite(row[c]) && !(best && row[c] <= best[c])) best = row;
    return best ? [`largest ${columns[c]} ${brief(Number(best[c]))} at ${labels(best)}`] : [];
  });
  return largest.join("; ") || "no values";
};
