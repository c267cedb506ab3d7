// Where the numbers of a panel come from, as a list beneath it.

import { element } from "./dom.js";
import { count } from "./numbers.js";
import { split } from "./words.js";

export class Origin {
  /** @param {import("./panel.js").Panel} panel */
  constructor(panel) {
    this.panel = panel;
    const label = `Where this comes from: ${panel.panel.title}`;
    this.root = element("div", { class: "numbers", role: "region", tabindex: 0, "aria-label": label });
  }

  /** Write what holds for the frame on screen. */
  update() {
    const { title } = this.panel.panel;
    const { film, here } = this.panel.player;
    const known = split(title, GLOSSARY).filter(({ meaning }) => meaning);
    const rows = [
      ["Shown", title],
      ...known.map(({ text, meaning }) => [text, meaning ?? ""]),
      ["Step", count(here)],
      ...Object.entries(film.origin),
    ];
    const cells = rows.map(([name, text]) =>
      element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "wraps" }, text)),
    );
    this.root.replaceChildren(element("table", {}, element("tbody", {}, ...cells)));
  }
}
