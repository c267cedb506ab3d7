// Files that the reader keeps.

import { element } from "./dom.js";

const KEPT = 60_000; // ms for which the browser may still read a file

/** @param {string} text */
const slug = (text) =>
  text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-|-$/g, "")
    .slice(0, 60);

/**
 * The name of a file without its ending.
 * @param {string} place the view, or the title of the page
 * @param {string} id of the panel
 * @param {number | null} step null: all steps
 */
export const fileName = (place, id, step) =>
  [slug(place) || "film", id, step === null ? "all-steps" : `step-${String(step).padStart(6, "0")}`].join("-");

/**
 * Where a panel is: the view in the address of the app, or the title of an exported page.
 * @param {boolean} isLinked
 */
export const placeOf = (isLinked) =>
  isLinked ? location.pathname.split("/").filter(Boolean).at(-1) || "overview" : document.title;

/**
 * @param {Blob} blob
 * @param {string} name
 */
export const download = (blob, name) => {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEPT);
};
