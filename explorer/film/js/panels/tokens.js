// A prompt and the tokens that the model predicts, as a row of tokens.

import { element } from "../dom.js";
import { exact } from "../numbers.js";
import { GAP, Panel } from "../panel.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   prompt: string[], answers: NumberArray, probabilities: NumberArray, targets: number[], places: number[],
 *   vocabulary: string[],
 * }} TokensData answers and probabilities are (frame, answer)
 */

const MOST_LARGE = 32; // more tokens than this are drawn small

/**
 * The cells of the row.
 * @param {Pick<TokensData, "prompt" | "places">} panel
 * @returns {{ texts: string[], dense: boolean }} the text of each cell, empty after the prompt
 */
export const layout = ({ prompt, places }) => {
  const after = places.filter((place) => place >= prompt.length);
  const texts = [...prompt, ...after.map(() => "")];
  return { texts, dense: texts.length > MOST_LARGE };
};

/**
 * The numbers of a frame.
 * @param {TokensData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = ({ answers, probabilities, targets, places, vocabulary }, frame) => ({
  columns: ["place", "answer", "probability", "right answer"],
  rows: places.map((place, i) => {
    const at = frame * places.length + i;
    return [place, vocabulary[answers[at]] ?? "–", probabilities[at], vocabulary[targets[i]]];
  }),
});

/** @extends {Panel<TokensData>} */
export default class Tokens extends Panel {
  /**
   * @param {TokensData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    const { texts, dense } = layout(panel);
    const cells = texts.map((text) => element("span", { class: "token prompt" }, text));
    this.answers = panel.places.map((place) => cells[place]);
    this.row = element("div", { class: `strip${dense ? " dense" : ""}`, role: "img" }, ...cells);
    this.root.append(this.row);
  }

  layout() {
    this.root.style.setProperty("--right", this.theme.right);
    this.root.style.setProperty("--wrong", this.theme.wrong);
  }

  live() {
    const { panel, isGap } = this;
    const { rows } = table(panel, this.player.index);
    rows.forEach(([place, answer, probability, target], i) => {
      const cell = this.answers[i];
      const label = String(answer);
      const right = answer === target;
      // A token of the prompt stays, and a wrong prediction for its place is shown below it.
      const given = Number(place) < panel.prompt.length;
      if (given) cell.dataset.said = right ? "" : label;
      else if (cell.textContent !== label) cell.textContent = label;
      cell.className = `token answer ${given ? "given" : ""} ${isGap ? "gap" : right ? "right" : "wrong"}`;
      cell.dataset.mark = isGap ? "" : right ? "✓" : "✗";
      const verdict = right ? "right" : `wrong: it is ${target}`;
      cell.title = isGap ? GAP : `${label}, ${verdict}, probability ${exact(Number(probability))}`;
    });
    const said = isGap ? GAP : rows.map(([, answer]) => answer).join("");
    this.row.setAttribute("aria-label", `${panel.prompt.join("")} ${said}`);
  }
}
