// Lines of monospaced text.

import { element } from "../dom.js";
import { Panel } from "../panel.js";
import { clamp } from "../scales.js";

/** @typedef {import("../types.d.ts").PanelData & { blocks: string[] }} TextData one block for all frames or each */

/**
 * The largest font size at which the longest line fits. A monospaced letter is about 0.61 times the font size wide.
 * @param {{ width: number, longest: number }} sizes width of the panel in pixels, and of its longest line in letters
 */
export const layout = ({ width, longest }) => ({ size: clamp((width - 32) / (0.61 * longest), 11, 18) });

/** @param {TextData} panel @param {number} frame */
const block = ({ blocks }, frame) => blocks[blocks.length > 1 ? frame : 0];

/**
 * The lines of a frame.
 * @param {TextData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => ({
  columns: ["text"],
  rows: block(panel, frame)
    .split("\n")
    .map((line) => [line]),
});

/** @extends {Panel<TextData>} */
export default class Text extends Panel {
  /**
   * @param {TextData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.block = element("pre");
    this.root.append(this.block);
    this.longest = Math.max(1, ...panel.blocks.flatMap((text) => text.split("\n").map((line) => line.length)));
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  summary() {
    return block(this.panel, this.player.index);
  }

  body() {
    const { block, theme } = this;
    const { fontFamily, fontSize } = getComputedStyle(block);
    const size = parseFloat(fontSize) / this.player.zoom;
    const lines = (block.textContent ?? "").split("\n");
    return {
      width: Math.max(this.root.clientWidth, 0.61 * size * this.longest + 32),
      height: 1.4 * size * lines.length,
      draw: (/** @type {CanvasRenderingContext2D} */ context) => {
        context.font = `400 ${size}px ${fontFamily}`;
        [context.fillStyle, context.textAlign, context.textBaseline] = [theme.ink, "left", "middle"];
        lines.forEach((line, i) => context.fillText(line, 0, 1.4 * size * (i + 0.5)));
      },
    };
  }

  layout() {
    this.block.style.fontSize = `${layout({ width: this.root.clientWidth, longest: this.longest }).size}px`;
  }

  live() {
    const text = block(this.panel, this.player.index);
    if (this.block.textContent !== text) this.block.textContent = text;
    this.block.classList.toggle("gap", this.isGap);
  }
}
