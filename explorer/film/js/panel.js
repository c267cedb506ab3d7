// What every kind of panel has: a heading and switches. A panel has a base, drawn when its size, theme or switches
// change (`layout`), and a live part, drawn for each frame (`live`).

import { element } from "./dom.js";
import { declare, get, memory, set } from "./memory.js";

/** @typedef {import("./types.d.ts").PanelData} PanelData */

/** @template {PanelData} [P=PanelData] */
export class Panel {
  moves = false; // whether it is drawn between snapshots too, while playing
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
    this.root.style.setProperty("--span", String(panel.span));
  }

  get theme() {
    return this.player.theme;
  }

  /**
   * Something that people may set, which the panel of this id keeps on every page.
   * @param {string} name
   * @param {import("./types.d.ts").SwitchValue} initial
   * @param {string[]} [names] what a list may hold
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
