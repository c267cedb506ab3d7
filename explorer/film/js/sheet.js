// The numbers of a panel's frame as a table beneath it.

import { element } from "./dom.js";
import { count, exact } from "./numbers.js";

const MOST_ROWS = 200;

export class Sheet {
  /** @param {import("./panel.js").Panel} panel */
  constructor(panel) {
    this.panel = panel;
    const label = `Numbers: ${panel.panel.title}`;
    this.root = element("div", { class: "numbers", role: "region", tabindex: 0, "aria-label": label });
  }

  /** Write the numbers of the frame on screen. */
  update() {
    const { panel } = this;
    const { columns, rows } = panel.table(panel.player.index);
    const shown = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} of ${count(rows.length)} rows` : "";
    const cell = (/** @type {string | number} */ value) =>
      typeof value === "number" ? element("td", { class: "number" }, exact(value)) : element("td", {}, value);
    const head = columns.map((name) => element("th", { scope: "col" }, name));
    const body = rows.slice(0, MOST_ROWS).map((row) => element("tr", {}, ...row.map(cell)));
    this.root.replaceChildren(
      element(
        "table",
        {},
        element("caption", {}, `step ${count(panel.player.here)}${shown}`),
        element("thead", {}, element("tr", {}, ...head)),
        element("tbody", {}, ...body),
      ),
    );
  }
}
