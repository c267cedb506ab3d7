// The base class of panels: a figure with a heading, switches and a menu of what can be taken away. `layout` draws what depends on size, theme and switches; `live`
// draws what depends on the frame.

import { element } from "./dom.js";
import { declare, get, memory, set } from "./memory.js";
import { count } from "./numbers.js";
import { spoken } from "./spoken.js";
import { TakeAway } from "./takeaway.js";
import { explained } from "./words.js";

/** @typedef {import("./types.d.ts").PanelData} PanelData */

const LEAST_ROOM = 120; // pixels of height
export const GAP = "no finite values at this snapshot"; // as in panel.py

/** @template {PanelData} [P=PanelData] */
export class Panel {
  moves = false; // whether it is also drawn between snapshots while playing
  dragging = false;

  /**
   * @param {P} panel
   * @param {import("./player.js").Player} player
   */
  constructor(panel, player) {
    this.panel = panel;
    this.player = player;
    this.heading = element("h3", {}, ...explained(panel.title));
    this.tools = element("div", { class: "push" });
    this.takeaway = new TakeAway(this);
    const header = element("header", {}, this.heading, this.tools, this.takeaway.root);
    const summary = `summary-${panel.id}`;
    this.summaryText = element("p", { id: summary, class: "unseen" });
    this.root = element(
      "section",
      {
        class: `panel ${panel.kind}`,
        role: "figure",
        tabindex: 0,
        "aria-label": panel.title,
        "aria-describedby": summary,
      },
      header,
      this.summaryText,
    );
    this.root.classList.toggle("slim", Boolean(panel.slim));
    this.root.style.setProperty("--span", String(panel.span));
  }

  get theme() {
    return this.player.theme;
  }

  /** Whether the reader has enlarged a part of the panel. */
  get isEnlarged() {
    return false;
  }

  /** Whether the panel has no values in this frame. */
  get isGap() {
    return this.panel.gaps.includes(this.player.index);
  }

  /** Say to a screen reader whether the panel has values in this frame. */
  announce() {
    const { title, gaps } = this.panel;
    if (gaps.length) this.root.setAttribute("aria-label", this.isGap ? `${title}: ${GAP}` : title);
  }

  /** Bring the summary and the table up to the frame at which the player stands. */
  settle() {
    this.summaryText.textContent = this.isGap ? GAP : `step ${count(this.player.here)}: ${this.summary()}`;
    this.takeaway.sheet?.update();
  }

  /**
   * The numbers of a frame.
   * @param {number} _frame
   * @returns {import("./types.d.ts").Table}
   */
  table(_frame) {
    return { columns: [], rows: [] };
  }

  /** The frame on screen in a few words. */
  summary() {
    return spoken(this.table(this.player.index));
  }

  /**
   * What the panel draws below its heading and legend in the frame on screen, to draw it once more.
   * @returns {import("./picture.js").Body}
   */
  body() {
    return { width: this.root.clientWidth, height: 0, draw: () => {} };
  }

  /**
   * The height that the panel's drawing has where its heading and legend leave it so much; null: as it likes.
   * @returns {number | null}
   */
  get room() {
    const { room } = this.player;
    if (room === null || this.panel.slim) return null;
    const others = [...this.root.children].filter((child) => !child.matches(".stage, .numbers, .unseen"));
    const taken = others.map((child) => /** @type {HTMLElement} */ (child).offsetHeight + 4);
    return Math.max(
      LEAST_ROOM,
      taken.reduce((rest, height) => rest - height, room),
    );
  }

  /**
   * A value that the reader may set. It belongs to the panel's id, so panels with this id share it on all pages.
   * @param {string} name
   * @param {import("./types.d.ts").SwitchValue} initial
   * @param {string[]} [names] values that a list may have
   */
  option(name, initial, names) {
    const { id } = this.panel;
    declare(memory, id, name, initial, names);
    return {
      get: () => get(memory, id, name),
      set: (/** @type {import("./types.d.ts").SwitchValue} */ value) => {
        set(memory, id, name, value);
        this.layout();
        this.player.redraw();
      },
    };
  }

  /**
   * A switch in the panel's header.
   * @param {string} name
   * @param {boolean} initial
   * @returns {() => boolean} whether it is on
   */
  toggle(name, initial) {
    const option = this.option(name, initial);
    const button = element("button", { class: "switch", type: "button", "aria-pressed": option.get() }, name);
    button.onclick = () => {
      option.set(!option.get());
      button.setAttribute("aria-pressed", option.get());
    };
    this.tools.append(button);
    return option.get;
  }

  layout() {}
  live() {}
  escape() {}
  ablate() {}

  /**
   * Act on a key while the panel has the focus.
   * @param {string} _key
   * @returns {boolean} whether it did
   */
  press(_key) {
    return false;
  }
}
