// The colours of the page in its present mode.

import { hex, joinedRamps, ramp, toLab } from "./colour.js";
import { context2d, element } from "./dom.js";

/** @typedef {import("./types.d.ts").Theme} Theme */

/**
 * @param {string} css any colour that the browser knows
 * @returns {import("./colour.js").Triple}
 */
export const rgb = (css) => {
  const context = context2d(element("canvas"), { willReadFrequently: true });
  context.fillStyle = css;
  context.fillRect(0, 0, 1, 1);
  const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
  return [r, g, b];
};

/**
 * @param {HTMLElement} root
 * @returns {Theme}
 */
export const readTheme = (root) => {
  const probe = element("i");
  root.append(probe);
  const colour = (/** @type {string} */ name) => {
    probe.style.color = `var(--${name})`;
    return `rgb(${rgb(getComputedStyle(probe).color).join(", ")})`; // a form that other programs also know
  };
  const [ink, paper, line, soft, cursor, wash] = ["ink", "paper", "line", "soft", "cursor", "wash"].map(colour);
  probe.remove();
  const page = rgb(paper);
  const mode = toLab(page)[0] > 0.5 ? "light" : "dark";
  const { categories, right, wrong, ring, ramps } = PALETTE[mode];
  const [sequential, up, down] = [ramps.sequential, ramps.positive, ramps.negative].map((stops) =>
    ramp([page, ...stops.map(hex)]),
  );
  return {
    ink,
    paper,
    line,
    soft,
    cursor,
    wash,
    font: getComputedStyle(root).fontFamily,
    mode,
    palette: categories,
    right,
    wrong,
    ring,
    ramps: { sequential, diverging: joinedRamps(down, up) },
  };
};
