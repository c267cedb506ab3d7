// The keyboard. The player's keys work wherever the focus is, except in text fields and tables, and on a control that
// got the focus by keyboard. A control that was clicked has the focus too, but the player still gets the keys.

const TEXT = /^(INPUT|TEXTAREA)$/;
const NO_TEXT = /^(range|radio|checkbox)$/;
// These keep all keys.
const KEEPING = "[role=listbox], [role=dialog], [role=grid], [role=gridcell], [data-testid=stDataFrame]";
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
  return !(tabbed && (CONTROL.test(target.tagName) || role) && !(target.type === "range" && key === " "));
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
    const last = player.film.steps.length - 1;
    /** @type {Record<string, () => unknown>} */
    const acts = {
      ArrowLeft: () => player.nudge(-1),
      ArrowRight: () => player.nudge(1),
      Home: () => player.nudge(-last),
      End: () => player.nudge(last),
      f: () => event.repeat || player.fill(),
      Escape: () => player.panels.forEach((panel) => panel.escape()),
      " ": () => event.repeat || player.toggle(),
      ...player.bindings,
    };
    if (!Object.hasOwn(acts, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }
}
