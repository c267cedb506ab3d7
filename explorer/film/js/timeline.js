// A panel whose horizontal axis is the steps. Dragging on it moves through the film.

import { CanvasPanel } from "./canvas.js";
import { count } from "./numbers.js";
import { TURN, decades, nearest, ticks } from "./scales.js";

/** @typedef {import("./types.d.ts").PanelData} PanelData */

export const ABOVE = 8; // pixels above the box, which flags take
export const BEYOND = 4; // pixels above and below the box that a thick curve takes at its edges

export const VEILED = "covered until the reveal";

/**
 * The scale between steps and places in a box.
 * @param {{ left: number, right: number }} box
 * @param {ArrayLike<number>} steps of the snapshots, ascending
 * @param {ArrayLike<number>[]} measured the steps of each curve. Some may lie outside the snapshots: curves of a run
 *   that is being trained are ahead of them, and those of a run beside another may begin earlier
 * @param {boolean} [log] whether equal ratios of steps are equal distances; step 0 has a place before step 1
 */
export const stepScale = (box, steps, measured, log = false) => {
  let [first, last] = [steps[0], steps[steps.length - 1]];
  for (const at of measured) {
    if (!at.length) continue;
    first = Math.min(first, at[0]);
    last = Math.max(last, at[at.length - 1]);
  }
  last = Math.max(first + 1, last);
  const same = (/** @type {number} */ step) => step;
  const [on, back] = log ? [Math.log1p, Math.expm1] : [same, same];
  const [from, to] = [on(first), on(last)];
  return {
    x: (/** @type {number} */ step) => box.left + ((on(step) - from) / (to - from)) * (box.right - box.left),
    stepAt: (/** @type {number} */ x) => back(from + ((x - box.left) / (box.right - box.left)) * (to - from)),
  };
};

/**
 * @template {PanelData & { at?: ArrayLike<number> | null }} P
 * @extends {CanvasPanel<P>}
 */
export class Timeline extends CanvasPanel {
  moves = true;
  gutter = 56; // pixels that the panel needs left of the axis
  logSteps = false;
  box = /** @type {import("./types.d.ts").Box | null} */ (null);
  x = (/** @type {number} */ _step) => 0;
  stepAt = (/** @type {number} */ _x) => 0;

  /**
   * @param {P} panel
   * @param {import("./player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.stage.classList.add("timeline");
    const drag = (/** @type {PointerEvent} */ event) =>
      this.player.seek(nearest(this.steps, this.stepAt(this.local(event)[0])));
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.isAxis(...this.local(event))) return;
      this.stage.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.player.pause();
      drag(event);
    });
    this.stage.addEventListener("pointermove", (event) => this.dragging && drag(event));
    for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
      this.stage.addEventListener(end, () => {
        if (this.dragging) this.player.report();
        this.dragging = false;
        this.player.catchUp();
      });
    }
  }

  /** The step that the panel shows in each frame: the film's, or its own if it shows another run. */
  get steps() {
    return this.panel.at ?? this.player.film.steps;
  }

  /**
   * Whether a drag may begin at a place.
   * @param {number} _x
   * @param {number} _y
   */
  isAxis(_x, _y) {
    return true;
  }

  /** The room that the panel asks for left of the axis. */
  get margin() {
    return this.gutter;
  }

  /** Where the axis begins: at the same place in all timelines of one width, so that equal steps line up. */
  get left() {
    const rooms = this.player.panels.map((other) =>
      other instanceof Timeline && other.panel.span === this.panel.span ? other.margin : 0,
    );
    return Math.max(...rooms);
  }

  /** @param {ArrayLike<number>[]} measured */
  scaleSteps(measured) {
    if (this.box) Object.assign(this, stepScale(this.box, this.steps, measured, this.logSteps));
  }

  /** @param {CanvasRenderingContext2D} context */
  stepAxis(context) {
    const { box, theme } = this;
    if (!box) return;
    const [first, last] = [this.stepAt(box.left), this.stepAt(box.right)];
    const all = this.logSteps ? decades(Math.max(first, 1), last) : [];
    if (first < 1) all.unshift(first);
    for (const step of this.logSteps ? all : ticks(first, last, box.right - box.left < 500 ? 4 : 8)) {
      const inside = this.width - this.textWidth(context, count(step)) / 2; // so that the last label is not cut off
      this.write(context, count(step), Math.min(this.x(step), inside), box.bottom + 18, { align: "center" });
    }
    this.write(context, "step", box.right, box.bottom + 32, { align: "right" });
    context.fillStyle = theme.soft;
    for (const step of Array.from(this.steps)) context.fillRect(this.x(step) - 0.5, box.bottom + 2, 1, 5);
  }

  /**
   * The place of a frame without values: from the snapshot before it to the one after it.
   * @param {number} frame
   * @returns {[number, number]} its ends
   */
  band(frame) {
    const { steps } = this;
    return [this.x(steps[Math.max(frame - 1, 0)]), this.x(steps[Math.min(frame + 1, steps.length - 1)])];
  }

  /**
   * Hatch the frames without values.
   * @param {CanvasRenderingContext2D} context
   */
  hatchGaps(context) {
    const { box, panel } = this;
    if (!box) return;
    for (const frame of panel.gaps) {
      const [from, to] = this.band(frame);
      this.hatch(context, { x: from, y: box.top, w: to - from, h: box.bottom - box.top });
    }
  }

  /**
   * Cover what comes after the player's veil.
   * @param {CanvasRenderingContext2D} context
   */
  drawVeil(context) {
    const { box, theme } = this;
    const { veil } = this.player;
    if (!box || veil === null) return;
    const x = this.x(this.steps[veil]) + 1;
    const y = box.top - ABOVE;
    this.hatch(context, { x, y, w: box.right + 16 - x, h: box.bottom + BEYOND - y });
    const middle = [(x + box.right) / 2, (box.top + box.bottom) / 2];
    this.write(context, "?", middle[0], middle[1], { size: 48, weight: 600, align: "center", colour: theme.ink });
  }

  /**
   * Whether a place comes after the player's veil.
   * @param {number} x
   */
  isVeiled(x) {
    const { veil } = this.player;
    return veil !== null && x > this.x(this.steps[veil]);
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  tipAt(x, y) {
    const { box, panel, steps } = this;
    if (this.isVeiled(x)) return VEILED;
    const isInside = box && !this.dragging && x >= box.left && x <= box.right && y >= box.top && y < box.bottom;
    const frame = isInside && panel.gaps.length ? nearest(steps, this.stepAt(x)) : -1;
    return panel.gaps.includes(frame) ? `no finite values at step ${count(steps[frame])}` : this.under(x, y);
  }

  /** The step at the cursor, between two frames while the film plays. */
  get cursorStep() {
    const { steps } = this;
    const { position } = this.player;
    const whole = Math.floor(position);
    return steps[whole] + (position - whole) * ((steps[whole + 1] ?? steps[whole]) - steps[whole]);
  }

  /**
   * Draw the cursor.
   * @param {CanvasRenderingContext2D} context
   * @returns {number} its x
   */
  cursor(context) {
    const { box, theme } = this;
    if (!box) return 0;
    const x = this.x(this.cursorStep);
    context.strokeStyle = theme.cursor;
    context.fillStyle = theme.cursor;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x, box.top);
    context.lineTo(x, box.bottom + 6);
    context.stroke();
    context.beginPath();
    context.arc(x, box.bottom + 6, 6, 0, TURN);
    context.fill();
    return x;
  }
}
