// Draws a film (see film.py) and lets the reader move through it, in Streamlit and in an exported HTML file.

import { element } from "./dom.js";
import { Keys } from "./keys.js";
import { declare, get, memory, set, takeUp } from "./memory.js";
import { advanced, drawnAt, isCalm } from "./motion.js";
import { clamp, nearest } from "./scales.js";
import { Stage } from "./stage.js";
import { readTheme } from "./theme.js";
import { Transport } from "./transport.js";

/** @typedef {import("./types.d.ts").FilmData} FilmData */
/** @typedef {import("./types.d.ts").Message} Message */

const FOLLOW_DELAY = 5000; // ms, longer than from one film of a run in training to the next
const REPORT_DELAY = 150; // ms without a key until the step is reported
const SETTLE_DELAY = 150; // ms without another frame until it is summed up in words

const ALL = "all"; // the id under which a choice is kept that all panels share

/** @typedef {"next view" | "previous view" | "next example" | "previous example" | `ablate ${string}` | `open ${string}`} Ask */

/** @typedef {{ keys: Record<"play" | "back" | "forward", string>, shortcuts: import("./help.js").Shortcut[] | null }} Controls */

/** @type {Controls} */
const USUAL = { keys: { play: "Space", back: "←", forward: "→" }, shortcuts: null };

export class Player {
  position = 0; // in snapshots; whole while paused
  playing = false;
  panels = /** @type {import("./panel.js").Panel[]} */ ([]);
  film = /** @type {FilmData} */ (/** @type {unknown} */ (null)); // set by `show`
  theme = /** @type {import("./types.d.ts").Theme} */ (/** @type {unknown} */ (null)); // set by `show`
  message = /** @type {unknown} */ (null); // the last one, to recognise a new one
  waiting = /** @type {Message | null} */ (null); // a message that came during a drag, which is shown afterwards
  painted = /** @type {number | null} */ (null); // the frame on screen
  reporting = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  settling = /** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined);
  ticking = 0;
  room = /** @type {number | null} */ (null); // pixels of height for a panel; null: as each panel likes
  leastType = 0; // pixels; no type of a panel's drawing is smaller
  pending = /** @type {number | null} */ (null);
  veil = /** @type {number | null} */ (null); // the last frame that may be seen; null: all
  bindings = /** @type {Record<string, () => unknown>} */ ({}); // keys besides the player's own, or in their place
  gliding = /** @type {number | null} */ (null);
  onStep = (/** @type {number} */ _step) => {};
  onAsk = /** @type {((ask: Ask) => void) | null} */ (null); // set by a host that can show another view or example

  /**
   * @param {HTMLElement} root
   * @param {Record<string, import("./types.d.ts").PanelClass>} kinds of panels, by name
   * @param {boolean} linked whether the page's address can be opened by others
   * @param {Controls} [controls] the names of its keys, where they are others than usual
   */
  constructor(root, kinds, linked, controls = USUAL) {
    this.root = root;
    this.controls = controls;
    this.kinds = kinds;
    this.linked = linked;
    this.transport = new Transport(this, linked);
    this.look = element("p", { class: "look" });
    this.grid = element("div", { class: "panels" });
    root.append(this.transport.root, this.look, this.grid);
    this.keys = new Keys(this);
    this.stage = new Stage(this);
    this.resizing = new ResizeObserver(() => this.layout());
    this.resizing.observe(root);
  }

  close() {
    this.pause();
    this.stopGliding();
    clearTimeout(this.reporting);
    clearTimeout(this.settling);
    this.resizing.disconnect();
    this.keys.close();
  }

  /** The magnification while the player fills the screen. */
  get zoom() {
    return Number(getComputedStyle(this.root).zoom) || 1;
  }

  /** The step on screen. */
  get here() {
    return this.film.steps[this.index];
  }

  get index() {
    return Math.floor(this.position);
  }

  /**
   * Show a film at the step last shown, or at the message's start if Python has moved the player since.
   * @param {Message} message
   */
  show(message) {
    if (this.panels.some((panel) => panel.dragging)) {
      this.waiting = message;
      return;
    }
    const { film, move, start, switches } = message;
    const isMoved = move !== memory.move;
    if (isMoved) {
      memory.move = move;
      memory.step = memory.reported = start;
      if (switches) takeUp(memory, switches);
    }
    const { steps } = film;
    const old = memory.steps; // also of a player that Streamlit has put into the place of this one
    // While a run is being trained, a player at its last snapshot follows to the newest.
    const grown = !isMoved && old && steps.length > old.length && old.every((step, i) => step === steps[i]);
    const follows = grown && !this.playing && memory.step === old.at(-1);
    if (follows) memory.step = steps[steps.length - 1];
    const between = this.position % 1; // the way to the next snapshot, while playing
    const buttons = () => [...this.grid.querySelectorAll("button")];
    const active = /** @type {Document | ShadowRoot} */ (this.root.getRootNode()).activeElement;
    const focused = buttons().findIndex((button) => button === active);
    this.film = film;
    memory.steps = steps;
    this.look.hidden = !film.look.length;
    this.transport.range.max = String(steps.length - 1);
    memory.declared.clear();
    declare(memory, ALL, "chosen", null);
    this.panels = film.panels.map((panel) => new this.kinds[panel.kind](panel, this));
    this.grid.replaceChildren(...this.panels.map((panel) => panel.root));
    this.position = nearest(steps, memory.step ?? start);
    if (this.playing) this.position = Math.min(this.position + between, steps.length - 1);
    this.retheme();
    this.paint(); // at once, so that the page does not flicker
    if (focused >= 0) buttons()[focused]?.focus();
    // The last page may have closed before its step was reported. A player that follows reports where it has come to
    // rest: each report makes Python compute the page again, and the next film is on its way already.
    if (!this.playing) this.reportSoon(follows ? FOLLOW_DELAY : REPORT_DELAY);
  }

  /** Show the film that came during a drag. */
  catchUp() {
    const { waiting } = this;
    this.waiting = null;
    if (waiting) this.show(waiting);
  }

  retheme() {
    this.theme = readTheme(this.root);
    this.root.dataset.mode = this.theme.mode;
    this.layout();
  }

  layout() {
    if (!this.film) return;
    this.stage.arrange();
    for (const panel of this.panels) panel.layout();
    this.redraw();
  }

  /** The name of the head, the curve or the map that stands out in all panels; null: none does. */
  get chosen() {
    return /** @type {string | null} */ (get(memory, ALL, "chosen") ?? null);
  }

  /** @param {string | null} name */
  choose(name) {
    set(memory, ALL, "chosen", name);
    this.layout();
  }

  /** Ablate the part that is chosen, or restore it, if a panel offers that. */
  ablate() {
    for (const panel of this.panels) panel.ablate();
  }

  /** Draw before the browser's next paint; several calls before it draw once. */
  draw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.paint();
    });
  }

  paint() {
    const { film, index } = this;
    for (const panel of this.panels) {
      if (!panel.root.hidden && (panel.moves || index !== this.painted)) panel.live();
    }
    const step = film.steps[index];
    this.root.dispatchEvent(new CustomEvent("painted", { detail: { step } }));
    if (index === this.painted) return;
    for (const panel of this.panels) panel.announce();
    this.look.textContent = film.look[index] ?? "";
    this.painted = index;
    memory.step = step;
    this.transport.say(index, film);
    this.root.dataset.step = String(step);
    this.settleSoon();
  }

  /** Sum up the frame in words when the player stands still: while it moves, nobody can listen to them. */
  settleSoon() {
    clearTimeout(this.settling);
    if (this.playing) return;
    this.settling = setTimeout(() => {
      for (const panel of this.panels) if (!panel.root.hidden) panel.settle();
    }, SETTLE_DELAY);
  }

  /** Draw all panels, even if the snapshot is the same. */
  redraw() {
    this.painted = null;
    this.draw();
  }

  /** The last frame that may be seen. */
  get last() {
    return this.veil ?? this.film.steps.length - 1;
  }

  /**
   * Cover everything after a frame on timelines.
   * @param {number | null} index null: uncover all
   */
  cover(index) {
    this.veil = index;
    this.transport.range.max = String(this.last);
    this.position = Math.min(this.position, this.last);
    this.layout();
  }

  /** @param {number} index */
  seek(index) {
    this.stopGliding();
    this.position = clamp(index, 0, this.last);
    this.draw();
  }

  /**
   * Move to a frame through all frames between; at once where the reader wants less motion.
   * @param {number} index
   * @param {number} duration ms
   */
  glide(index, duration) {
    this.pause();
    const [from, to] = [this.position, clamp(index, 0, this.last)];
    this.seek(from);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.seek(to);
      return;
    }
    /** @type {number | null} */
    let begun = null;
    const tick = (/** @type {number} */ now) => {
      begun ??= now;
      const share = clamp((now - begun) / duration, 0, 1);
      this.position = share < 1 ? from + (to - from) * share * share * (3 - 2 * share) : to;
      this.paint();
      this.gliding = share < 1 ? requestAnimationFrame(tick) : null;
    };
    this.gliding = requestAnimationFrame(tick);
  }

  stopGliding() {
    if (this.gliding !== null) cancelAnimationFrame(this.gliding);
    this.gliding = null;
  }

  /** @param {number} by */
  nudge(by) {
    this.pause();
    this.seek(this.index + by);
    this.reportSoon();
  }

  toggle() {
    if (this.playing) {
      this.pause();
      this.report();
    } else this.play();
  }

  play() {
    this.stopGliding();
    const last = () => this.last; // asked anew, as the film of a run that is being trained grows
    if (this.index >= last()) this.position = 0;
    this.playing = true;
    this.transport.offer("pause");
    /** @type {number | null} */
    let then = null;
    let at = this.position;
    const calm = isCalm();
    const tick = (/** @type {number} */ now) => {
      const seconds = (now - (then ?? now)) / 1000;
      then = now;
      at = advanced(at, seconds, memory.speed, this.film.steps.length);
      this.position = drawnAt(at, calm);
      this.paint();
      if (this.position >= last()) this.toggle();
      else this.ticking = requestAnimationFrame(tick);
    };
    this.ticking = requestAnimationFrame(tick);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.ticking);
    this.transport.offer("play");
    this.seek(this.index);
    this.settleSoon();
  }

  /** Report the step at which the reader has stopped the player, if it is another than the last. */
  report() {
    clearTimeout(this.reporting);
    if (this.here !== memory.reported) this.onStep(this.here);
    memory.reported = this.here;
    memory.onSwitches?.();
  }

  reportSoon(delay = REPORT_DELAY) {
    clearTimeout(this.reporting);
    this.reporting = setTimeout(() => this.report(), delay);
  }
}
