// The player on the whole screen, for a talk: one panel as large as the screen allows, and type that the last row reads.

import { element } from "./dom.js";
import { clamp } from "./scales.js";

// The screen is laid out as if it had this size, and magnified: 14 pixels are 28 on a screen of 1920 by 1080.
const WIDTH = 960;
const HEIGHT = 540;
export const LEAST_TYPE = 14; // pixels
const APART = 8; // pixels between the parts of the screen
const MOST_STRIP = 0.25; // of the height, that the strip of tokens may take

/**
 * How much a screen is magnified.
 * @param {number} width of the screen
 * @param {number} height
 */
export const magnification = (width, height) => Math.max(1, Math.min(width / WIDTH, height / HEIGHT));

/**
 * The place of the panel before or after another, around the end.
 * @param {number} at
 * @param {number} by
 * @param {number} n how many there are
 */
export const around = (at, by, n) => (((at + by) % n) + n) % n;

export class Stage {
  on = false;
  shown = /** @type {string | null} */ (null); // the id of the panel
  isHigh = false; // whether the contrast is high

  /** @param {import("./player.js").Player} player */
  constructor(player) {
    this.player = player;
    this.title = element("strong");
    this.run = element("span");
    this.headline = element("div", { class: "headline" }, this.title, this.run);
    this.spot = element("div", { class: "spot", hidden: "", "aria-hidden": "true" });
    player.root.addEventListener("fullscreenchange", () => this.change());
    player.root.addEventListener("pointermove", (event) => this.point(event));
  }

  /** Fill the screen, or leave it. */
  toggle() {
    const { root } = this.player;
    const { fullscreenElement } = /** @type {Document | ShadowRoot} */ (root.getRootNode());
    if (fullscreenElement) document.exitFullscreen();
    else root.requestFullscreen();
  }

  change() {
    const { player } = this;
    const { root } = player;
    this.on = root.matches(":fullscreen");
    root.classList.toggle("on-stage", this.on);
    player.leastType = this.on ? LEAST_TYPE : 0;
    if (this.on) {
      const active = /** @type {Document | ShadowRoot} */ (root.getRootNode()).activeElement;
      this.shown = player.panels.find((panel) => panel.root.contains(active))?.panel.id ?? this.first();
      root.append(this.spot);
      root.prepend(this.headline);
    } else {
      player.room = null;
      for (const panel of player.panels) panel.root.hidden = false;
      this.headline.remove();
      this.spot.remove();
      this.spot.hidden = true;
      this.isHigh = false;
    }
    root.classList.toggle("contrast", this.isHigh);
    player.retheme();
  }

  /** The panels that can be large: all but the strip of tokens, which stays above them. */
  get large() {
    const { panels } = this.player;
    const others = panels.filter((panel) => panel.panel.kind !== "tokens");
    return others.length ? others : panels;
  }

  /** The panel of which the reader has enlarged a part, or the first. */
  first() {
    const { large } = this;
    return (large.find((panel) => panel.isEnlarged) ?? large[0]).panel.id;
  }

  /** Show one panel in the room that the others leave. */
  arrange() {
    if (!this.on) return;
    const { player, large } = this;
    const { root } = player;
    const { linked } = player;
    this.title.textContent = document.querySelector("h1")?.textContent || document.title;
    this.run.textContent = (linked && new URLSearchParams(location.search).get("run")) || "";
    root.style.setProperty("--magnification", String(magnification(innerWidth, innerHeight)));
    const current = large.find((panel) => panel.panel.id === this.shown) ?? large[0];
    this.shown = current.panel.id;
    for (const panel of player.panels) panel.root.hidden = panel !== current && large.includes(panel);
    const height = innerHeight / player.zoom;
    const strips = player.panels.filter((panel) => !large.includes(panel)).map((panel) => panel.root);
    for (const strip of strips) strip.hidden = strip.offsetHeight > MOST_STRIP * height;
    const parts = [this.headline, player.transport.root, player.look, ...strips.filter((strip) => !strip.hidden)];
    player.room = clamp(
      parts.reduce((rest, part) => rest - part.offsetHeight - APART, height - 2 * APART),
      0,
      height,
    );
  }

  /**
   * Show the panel before or after.
   * @param {number} by
   */
  turn(by) {
    const { large } = this;
    const at = large.findIndex((panel) => panel.panel.id === this.shown);
    const next = large[around(at, by, large.length)];
    this.shown = next.panel.id;
    this.player.layout();
    next.root.focus({ preventScroll: true });
  }

  contrast() {
    this.isHigh = !this.isHigh;
    this.player.root.classList.toggle("contrast", this.isHigh);
    this.player.retheme();
  }

  /** @param {MouseEvent} event */
  point({ clientX, clientY }) {
    const { zoom } = this.player;
    if (this.on) this.spot.style.translate = `${clientX / zoom}px ${clientY / zoom}px`;
  }
}
