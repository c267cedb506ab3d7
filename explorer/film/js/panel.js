// The base class of panels: a heading and switches. `layout` draws what depends on size, theme and switches; `live`
// draws what depends on the frame.

import { element } from "./dom.js";
import { declare, get, memory, set } from "./memory.js";

/** @typedef {import("./types.d.ts").PanelData} PanelData */

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
    this.heading = element("h3", {}, panel.title);
    this.tools = element("div", { class: "push" });
    const header = element("header", {}, this.heading, this.tools);
    this.root = element("section", { class: `panel ${panel.kind}`, "aria-label": panel.title }, header);
    this.root.classList.toggle("slim", Boolean(panel.slim));
    this.root.style.setProperty("--span", String(panel.span));
  }

  get theme() {
    return this.player.theme;
  }

  /** The height for the panel, in pixels; null: its own. */
  get tall() {
    return this.panel.slim ? null : this.player.room;
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
}
