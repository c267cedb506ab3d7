// The list of all keys.

import { element } from "./dom.js";

/** @typedef {[keys: string, what: string]} Shortcut */

/** @type {Shortcut[]} */
const ALWAYS = [
  ["Space", "play or pause"],
  ["← →", "one snapshot back or forward"],
  ["Home, End", "the first or the last snapshot"],
  ["f", "fill the screen, or leave it"],
  ["Enter, ↑ ↓", "on maps that have the focus: enlarge one, and change it"],
  ["Enter, arrows", "on a plane of runs that has the focus: open a cell's run, and choose another cell"],
  ["Escape", "show all maps again; leave the screen"],
  ["?", "these keys"],
];
/** @type {Shortcut[]} */
const ON_STAGE = [
  ["n, p", "on the whole screen: the next or the previous panel"],
  ["c", "on the whole screen: high contrast"],
  ["s", "on the whole screen: a spot that follows the pointer"],
];
/** @type {Shortcut[]} */
const ASKED = [
  ["v, V", "the next or the previous view"],
  ["e, E", "the next or the previous example"],
  ["x", "in the Overview: ablate the head or MLP that is chosen, or restore it"],
];

/**
 * The shortcuts of a player.
 * @param {boolean} isAsked whether its host can show another view or example
 */
export const shortcuts = (isAsked) => [...ALWAYS, ...ON_STAGE, ...(isAsked ? ASKED : [])];

/**
 * Show the keys of a player.
 * @param {import("./player.js").Player} player
 */
export const help = (player) => {
  const listed = player.controls.shortcuts ?? shortcuts(Boolean(player.onAsk));
  const rows = listed.map(([keys, what]) =>
    element("tr", {}, element("th", { scope: "row" }, element("kbd", {}, keys)), element("td", {}, what)),
  );
  const close = element("button", { type: "button", class: "switch" }, "Close");
  const dialog = element(
    "dialog",
    { class: "help", "aria-label": "Keys" },
    element("h3", {}, "Keys"),
    element("table", {}, element("tbody", {}, ...rows)),
    close,
  );
  close.onclick = () => dialog.close();
  dialog.onclose = () => dialog.remove();
  player.root.append(dialog);
  dialog.showModal();
};
