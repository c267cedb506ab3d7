// The keyboard. The player's keys work wherever the focus is, except in text fields and tables, and on a control that
// got the focus by keyboard. A control that was clicked has the focus too, but the player still gets the keys.

import { help } from "./help.js";

const TEXT = /^(INPUT|TEXTAREA)$/;
const NO_TEXT = /^(range|radio|checkbox)$/;
// These keep all keys.
const KEEPING =
  "[role=listbox], [role=dialog], dialog, [role=menu], [role=grid], [role=gridcell], [data-testid=stDataFrame], .numbers";
const CONTROL = /^(BUTTON|SELECT|SUMMARY|INPUT)$/;

/**
 * Whether an element takes typed text.
 * @param {any} target
 */
const isText = (target) => target.isContentEditable || (TEXT.test(target.tagName) && !NO_TEXT.test(target.type));

/**
 * Whether the player acts on a key.
 * @param {any} target what has the focus
 * @param {string} key
 * @param {boolean} tabbed whether it got the focus by keyboard
 * @param {Element} range the player's own slider
 */
export const isPlayers = (target, key, tabbed, range) => {
  if (isText(target) || target.closest?.(KEEPING)) return false;
  const role = target.getAttribute?.("role");
  if ((target.type === "range" || role === "slider") && target !== range) return false;
  const isControl = CONTROL.test(target.tagName) || (role && role !== "figure");
  return !(tabbed && isControl && !(target.type === "range" && key === " "));
};

/** @typedef {import("./player.js").Player} Player */
/** @typedef {Record<string, (player: Player) => unknown>} Acts */

/** @type {Acts} */
const ACTS = {
  ArrowLeft: (player) => player.nudge(-1),
  ArrowRight: (player) => player.nudge(1),
  Home: (player) => player.nudge(1 - player.film.steps.length),
  End: (player) => player.nudge(player.film.steps.length - 1),
  Escape: ({ panels }) => panels.forEach((panel) => panel.escape()),
};
/** What a key that is held down does only once. @type {Acts} */
const ONCE = {
  " ": (player) => player.toggle(),
  f: ({ stage }) => stage.toggle(),
  "?": (player) => help(player),
};
/** @type {Acts} */
const ON_STAGE = {
  n: ({ stage }) => stage.turn(1),
  p: ({ stage }) => stage.turn(-1),
  c: ({ stage }) => stage.contrast(),
  s: ({ stage }) => (stage.spot.hidden = !stage.spot.hidden),
};
/** @type {Acts} */
const ASKS = {
  v: ({ onAsk }) => onAsk?.("next view"),
  V: ({ onAsk }) => onAsk?.("previous view"),
  e: ({ onAsk }) => onAsk?.("next example"),
  E: ({ onAsk }) => onAsk?.("previous example"),
  x: (player) => player.ablate(),
};

/**
 * What a key does now.
 * @param {string} key
 * @param {{ isOnStage: boolean, isAsked: boolean, isRepeated: boolean }} state whether the player fills the screen,
 *   whether its host can show another view or example, and whether the key is held down
 * @returns {((player: Player) => unknown) | undefined} undefined: the key is not the player's
 */
export const actOf = (key, { isOnStage, isAsked, isRepeated }) => {
  const either = key.length === 1 ? key.toLowerCase() : key; // with capitals locked, too
  const once = { ...ONCE, ...(isOnStage ? ON_STAGE : {}) };
  const asks = isAsked ? ASKS : {};
  const find = (/** @type {Acts} */ acts, /** @type {string} */ name) =>
    Object.hasOwn(acts, name) ? acts[name] : undefined;
  const held = find(once, either) ?? find(asks, key);
  if (held && isRepeated) return () => {};
  return find(ACTS, key) ?? held;
};

export class Keys {
  tabbed = false;

  /** @param {import("./player.js").Player} player */
  constructor(player) {
    this.player = player;
    this.onKey = (/** @type {KeyboardEvent} */ event) => this.press(event);
    this.onPointer = () => (this.tabbed = false);
    document.addEventListener("keydown", this.onKey, true);
    document.addEventListener("pointerdown", this.onPointer, true);
  }

  close() {
    document.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("pointerdown", this.onPointer, true);
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    const { player } = this;
    if (event.key === "Tab") this.tabbed = true;
    if (!player.film || event.ctrlKey || event.metaKey || event.altKey || !player.root.isConnected) return;
    const target = /** @type {HTMLElement} */ (event.composedPath()[0]);
    if (isText(target) && event.key === "Enter") setTimeout(() => target.blur());
    if (!isPlayers(target, event.key, this.tabbed, player.transport.range)) return;
    const focused = player.panels.find((panel) => panel.root === target);
    if (focused?.press(event.key)) return this.keep(event);
    const { stage, onAsk, bindings } = player;
    const own = Object.hasOwn(bindings, event.key) ? bindings[event.key] : undefined;
    const act = own ?? actOf(event.key, { isOnStage: stage.on, isAsked: Boolean(onAsk), isRepeated: event.repeat });
    if (!act) return;
    this.keep(event);
    act(player);
  }

  /**
   * Let nobody else act on a key.
   * @param {KeyboardEvent} event
   */
  keep(event) {
    event.preventDefault();
    event.stopPropagation();
  }
}
