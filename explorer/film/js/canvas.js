// A panel drawn on two canvases, with a tooltip: the base, and on top of it what changes with each frame.

import { context2d, element } from "./dom.js";
import { brief } from "./numbers.js";
import { GAP, Panel } from "./panel.js";
import { clamp } from "./scales.js";

/** @typedef {import("./types.d.ts").PanelData} PanelData */
/**
 * @typedef {{
 *   low: number, high: number, full_colour_at?: number | null, scale: import("./types.d.ts").Scale,
 * }} Scaled
 */

/** @typedef {{ x: number, y: number, w: number, h: number }} Area */

const HATCH = 8; // pixels between the lines of a hatched area, along each axis

/**
 * @template {PanelData} [P=PanelData]
 * @extends {Panel<P>}
 */
export class CanvasPanel extends Panel {
  width = 0;
  height = 0;
  base = /** @type {CanvasRenderingContext2D} */ (/** @type {unknown} */ (null)); // set once it is on screen
  top = /** @type {CanvasRenderingContext2D} */ (/** @type {unknown} */ (null));
  onto = /** @type {CanvasRenderingContext2D | null} */ (null); // to draw on instead of the canvases
  pointer = /** @type {[number, number] | null} */ (null);

  /**
   * @param {P} panel
   * @param {import("./player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.stage = element("div", { class: "stage" });
    this.canvases = ["base", "live"].map(() => element("canvas", { "aria-hidden": "true" }));
    this.tip = element("div", { class: "tip" });
    this.stage.append(...this.canvases, this.tip);
    this.root.append(this.stage);
    this.stage.addEventListener("pointermove", (event) => this.hover(event));
    this.stage.addEventListener("pointerleave", () => this.hideTip());
  }

  /**
   * Fit the canvases to the panel's width and the given height.
   * @param {number} height
   * @returns {boolean} false if the panel is not on screen
   */
  fit(height) {
    this.width = this.root.clientWidth;
    this.height = height;
    if (!this.width) return false;
    if (this.onto) {
      this.base = this.top = this.onto;
      return true;
    }
    this.stage.style.height = `${height}px`;
    const ratio = (window.devicePixelRatio || 1) * this.player.zoom;
    [this.base, this.top] = this.canvases.map((canvas) => {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(height * ratio);
      const context = context2d(canvas);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      return context;
    });
    return true;
  }

  body() {
    const { width, height } = this;
    const draw = (/** @type {CanvasRenderingContext2D} */ context) => {
      const { base, top } = this;
      this.onto = context;
      this.layout();
      this.live();
      [this.onto, this.base, this.top] = [null, base, top];
    };
    return { width, height, draw };
  }

  /** The least size of type: larger on a stage, where readers are far away. */
  get least() {
    return this.player.leastType;
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {string} text
   * @param {number} x
   * @param {number} y
   * @param {{ size?: number, colour?: string, align?: CanvasTextAlign, weight?: number, turned?: boolean }} [style]
   */
  write(
    context,
    text,
    x,
    y,
    { size = 13, colour = this.theme.soft, align = "left", weight = 400, turned = false } = {},
  ) {
    context.font = `${weight} ${Math.max(size, this.least)}px ${this.theme.font}`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.textBaseline = "middle";
    if (!turned) {
      context.fillText(text, x, y);
      return;
    }
    context.save();
    context.translate(x, y);
    context.rotate(-Math.PI / 2);
    context.fillText(text, 0, 0);
    context.restore();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {string} text
   * @param {number} [size]
   */
  textWidth(context, text, size = 13) {
    context.font = `400 ${Math.max(size, this.least)}px ${this.theme.font}`;
    return context.measureText(text).width;
  }

  /**
   * @param {string} text
   * @param {number} x
   * @param {number} y
   */
  showTip(text, x, y) {
    this.tip.textContent = text;
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    this.tip.style.left = `${clamp(x + 12, 0, Math.max(this.width - width, 0))}px`;
    this.tip.style.top = `${y - height - 8 < 0 ? y + 16 : y - height - 8}px`;
    this.tip.style.visibility = "visible";
  }

  hideTip() {
    this.tip.style.visibility = "hidden";
    this.pointer = null;
  }

  /**
   * The place of an event in the canvas's own pixels, which zoom does not change.
   * @param {MouseEvent} event
   * @returns {[number, number]}
   */
  local(event) {
    const { left, top, width } = this.stage.getBoundingClientRect();
    const scale = this.width / width;
    return [(event.clientX - left) * scale, (event.clientY - top) * scale];
  }

  /** @param {MouseEvent} event */
  hover(event) {
    this.pointer = this.local(event);
    this.retip();
  }

  /** Show what is under the pointer now: another frame has other values. */
  retip() {
    const text = this.pointer && this.tipAt(...this.pointer);
    if (this.pointer && text) this.showTip(text, ...this.pointer);
    else this.tip.style.visibility = "hidden";
  }

  /**
   * The text of the tooltip at a place, also in a frame without values.
   * @param {number} x
   * @param {number} y
   */
  tipAt(x, y) {
    return this.isGap ? GAP : this.under(x, y);
  }

  /**
   * Hatch an area that has no values. The lines of all areas are in line with each other.
   * @param {CanvasRenderingContext2D} context
   * @param {Area} area
   */
  hatch(context, { x, y, w, h }) {
    context.save();
    context.beginPath();
    context.rect(x, y, w, h);
    context.clip();
    context.fillStyle = this.theme.wash;
    context.fillRect(x, y, w, h);
    context.strokeStyle = this.theme.line;
    context.lineWidth = 1;
    context.beginPath();
    for (let sum = Math.ceil((x + y) / HATCH) * HATCH; sum < x + w + y + h; sum += HATCH) {
      context.moveTo(sum - y, y);
      context.lineTo(sum - y - h, y + h);
    }
    context.stroke();
    context.restore();
  }

  /**
   * Draw a frame without values: hatched areas, and a caption in the one nearest to the middle if it has room there.
   * @param {CanvasRenderingContext2D} context
   * @param {Area[]} areas
   */
  drawGap(context, areas) {
    for (const area of areas) this.hatch(context, area);
    const [xs, ys] = [areas.flatMap(({ x, w }) => [x, x + w]), areas.flatMap(({ y, h }) => [y, y + h])];
    const middle = [xs, ys].map((ends) => (Math.min(...ends) + Math.max(...ends)) / 2);
    const off = (/** @type {Area} */ { x, y, w, h }) => Math.hypot(x + w / 2 - middle[0], y + h / 2 - middle[1]);
    const nearest = areas.reduce((one, other) => (off(other) < off(one) ? other : one));
    const width = this.textWidth(context, GAP) + 16;
    const wanted = nearest.w >= width ? nearest.x + nearest.w / 2 : middle[0];
    const x = clamp(wanted, width / 2, Math.max(this.width - width / 2, width / 2));
    const y = nearest.y + nearest.h / 2;
    context.fillStyle = this.theme.paper;
    context.fillRect(x - width / 2, y - 12, width, 24);
    this.write(context, GAP, x, y, { align: "center" });
  }

  /**
   * The text of the tooltip at a place.
   * @param {number} _x
   * @param {number} _y
   * @returns {string | null} null: no tooltip
   */
  under(_x, _y) {
    return null;
  }
}

/** The legend of a colour scale: its lowest value, its colours, its highest value. */
export class Key {
  /** @param {HTMLElement} tools to append it to */
  constructor(tools) {
    this.low = element("span");
    this.bar = element("canvas", { class: "ramp", width: 96, height: 1, "aria-hidden": "true" });
    this.high = element("span");
    tools.append(this.low, this.bar, this.high);
  }

  /**
   * @param {Uint32Array} colours
   * @param {Scaled} scaled
   */
  paint(colours, scaled) {
    const context = context2d(this.bar);
    const image = context.createImageData(96, 1);
    const packed = new Uint32Array(image.data.buffer);
    for (let i = 0; i < 96; i += 1) packed[i] = colours[Math.round((i * 255) / 95)];
    context.putImageData(image, 0, 0);
    this.say(scaled);
  }

  /** @param {Scaled} scaled */
  say({ low, high, full_colour_at: full, scale }) {
    const ends = full
      ? [scale === "diverging" ? `≤ ${brief(-full)}` : brief(low), `≥ ${brief(full)}`]
      : [low, high].map(brief);
    if (this.low.textContent !== ends[0]) this.low.textContent = ends[0];
    if (this.high.textContent !== ends[1]) this.high.textContent = ends[1];
  }
}
