// Helpers that make elements of the page.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M3 1.5v13l11-6.5z",
  pause: "M3 2h4v12H3zM9 2h4v12H9z",
  back: "M10.5 1.5 12 3 7 8l5 5-1.5 1.5L4 8z",
  full: "M1 1h5v2H3v3H1zM10 1h5v5h-2V3h-3zM1 10h2v3h3v2H1zM13 10h2v5h-5v-2h3z",
  forward: "M5.5 1.5 4 3l5 5-5 5 1.5 1.5L12 8z",
  take: "M7 1h2v6h3l-4 4.5L4 7h3zM2 11h2v2h8v-2h2v4H2z",
  beat: "M1 2h14v9H1zM3 4v5h10V4zM3 13h10v2H3z",
  link: "M6.3 9.7a3 3 0 0 1 0-4.2l2.5-2.6a3 3 0 0 1 4.3 4.3l-1.3 1.2-1.1-1 1.3-1.3a1.5 1.5 0 0 0-2.1-2.1L7.4 6.6a1.5 1.5 0 0 0 0 2.1zM9.7 6.3a3 3 0 0 1 0 4.2l-2.5 2.6a3 3 0 0 1-4.3-4.3l1.3-1.2 1.1 1L4 9.9A1.5 1.5 0 0 0 6.1 12l2.5-2.6a1.5 1.5 0 0 0 0-2.1z",
};

/** @typedef {keyof typeof ICONS} Icon */

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {(Node | string)[]} children
 */
export const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
};

/** @param {Icon} name */
export const icon = (name) => {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
};

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
export const context2d = (canvas, settings) =>
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", settings));
