// A button that opens a menu. Escape, a choice, or leaving it closes it.

import { element, icon } from "./dom.js";

/**
 * @typedef {object} Choice
 * @property {string} label
 * @property {() => unknown} act
 * @property {boolean} [isOn] of something that is on or off
 * @property {() => string | Promise<string>} [size] of the file that it gives, in words; empty if it is small
 */

export class Menu {
  /**
   * @param {import("./dom.js").Icon} name
   * @param {string} label
   * @param {() => Choice[]} choices asked whenever the menu opens
   */
  constructor(name, label, choices) {
    this.choices = choices;
    this.label = label;
    this.list = /** @type {HTMLElement | null} */ (null);
    this.button = element(
      "button",
      {
        type: "button",
        class: "opens",
        title: label,
        "aria-label": label,
        "aria-haspopup": "menu",
        "aria-expanded": "false",
      },
      icon(name),
    );
    this.root = element("div", { class: "menu" }, this.button);
    this.button.onclick = () => (this.list ? this.close() : this.open());
    this.root.addEventListener("focusout", ({ relatedTarget }) => {
      if (!this.root.contains(/** @type {Node | null} */ (relatedTarget))) this.close();
    });
  }

  open() {
    const choices = this.choices();
    const items = choices.map(({ label, act, isOn }) => {
      const role = isOn === undefined ? "menuitem" : "menuitemcheckbox";
      const item = element("button", { type: "button", role, tabindex: -1 }, label);
      if (isOn !== undefined) item.setAttribute("aria-checked", String(isOn));
      item.onclick = () => {
        this.button.focus();
        this.close();
        act();
      };
      return item;
    });
    this.list = element("div", { role: "menu", "aria-label": this.label }, ...items);
    this.list.addEventListener("keydown", (event) => this.press(event, items));
    this.button.setAttribute("aria-expanded", "true");
    this.root.append(this.list);
    items[0].focus();
    this.tell(choices, items, this.list);
  }

  /**
   * Tell the sizes of the files, one after another, because some have to be made for it and the menu is there at once.
   * @param {Choice[]} choices
   * @param {HTMLElement[]} items
   * @param {HTMLElement} list the menu, as long as it is open
   */
  async tell(choices, items, list) {
    for (const [i, { size }] of choices.entries()) {
      await new Promise((resolve) => setTimeout(resolve)); // a key or a click goes first
      if (this.list !== list) return;
      const text = await size?.();
      if (text) items[i].append(element("small", {}, `, ${text}`));
    }
    list.dataset.told = "";
  }

  close() {
    this.list?.remove();
    this.list = null;
    this.button.setAttribute("aria-expanded", "false");
  }

  /**
   * @param {KeyboardEvent} event
   * @param {HTMLElement[]} items
   */
  press(event, items) {
    const at = items.indexOf(/** @type {HTMLElement} */ (event.target));
    const last = items.length - 1;
    const next = { ArrowDown: at < last ? at + 1 : 0, ArrowUp: at > 0 ? at - 1 : last, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.button.focus();
    if (next !== undefined) items[next].focus();
    if (event.key === "Escape" || event.key === "Tab") this.close();
    if (event.key !== "Escape" && next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
  }
}
