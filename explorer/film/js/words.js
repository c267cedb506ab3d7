// Words of the glossary in a text, which show their meaning on hover and on focus.

import { element } from "./dom.js";

/** @typedef {{ text: string, meaning: string | null }} Part */

/**
 * A text in parts: each word of the glossary, where it occurs first, and what is between.
 * @param {string} text
 * @param {Record<string, string>} glossary word in lower case -> meaning
 * @returns {Part[]}
 */
export const split = (text, glossary) => {
  const words = Object.keys(glossary).sort((a, b) => b.length - a.length);
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])(?:${escaped.join("|")})(?![\\p{L}\\p{N}_])`, "giu");
  const seen = new Set();
  /** @type {Part[]} */
  const parts = [];
  let at = 0;
  for (const match of words.length ? text.matchAll(pattern) : []) {
    const meaning = glossary[match[0].toLowerCase()];
    if (seen.has(meaning)) continue;
    seen.add(meaning);
    parts.push({ text: text.slice(at, match.index), meaning: null }, { text: match[0], meaning });
    at = match.index + match[0].length;
  }
  parts.push({ text: text.slice(at), meaning: null });
  return parts.filter((part) => part.text);
};

/**
 * The nodes of a text with its words explained.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
export const explained = (text) =>
  split(text, GLOSSARY).map(({ text: part, meaning }) =>
    meaning
      ? element("span", { class: "term", tabindex: 0, "data-meaning": meaning, "aria-description": meaning }, part)
      : part,
  );
