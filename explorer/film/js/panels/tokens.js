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

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  summary() {
    return this.row.getAttribute("aria-label") ?? "";
  }

  /** Each token where it is on screen. */
  body() {
    const { row, theme } = this;
    const frame = row.getBoundingClientRect();
    const zoom = frame.width / row.offsetWidth || 1;
    const font = getComputedStyle(row.firstElementChild ?? row);
    const size = parseFloat(font.fontSize) / this.player.zoom;
    const draw = (/** @type {CanvasRenderingContext2D} */ context) => {
      const write = (
        /** @type {string} */ text,
        /** @type {number} */ x,
        /** @type {number} */ y,
        /** @type {number} */ size,
      ) => {
        context.font = `600 ${size}px ${font.fontFamily}`;
        [context.textAlign, context.textBaseline] = ["center", "middle"];
        context.fillText(text, x, y);
      };
      for (const cell of /** @type {NodeListOf<HTMLElement>} */ (row.querySelectorAll(".token"))) {
        const box = cell.getBoundingClientRect();
        const [x, y, w, h] = [box.x - frame.x, box.y - frame.y, box.width, box.height].map((length) => length / zoom);
        const { classList } = cell;
        const verdict = classList.contains("right") ? theme.right : theme.wrong;
        context.fillStyle = theme.wash;
        context.fillRect(x, y, w, h);
        context.fillStyle = classList.contains("gap") ? theme.soft : classList.contains("answer") ? verdict : theme.ink;
        if (classList.contains("answer")) context.fillRect(x, y + h - 3, w, 3);
        write(cell.textContent ?? "", x + w / 2, y + h / 2, size);
        if (cell.dataset.mark) write(cell.dataset.mark, x + w - 8, y + 8, 11);
        if (cell.dataset.said) write(cell.dataset.said, x + w / 2, y + h + 12, 13);
      }
    };
    return { width: row.offsetWidth, height: row.offsetHeight + 4, draw };
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
