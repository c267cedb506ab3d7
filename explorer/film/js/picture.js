// A panel as a picture to take away: its title, the step, its legend and its drawing, on the page's paper.

import { context2d, element } from "./dom.js";
import { count } from "./numbers.js";

/**
 * What a panel draws.
 * @typedef {{ width: number, height: number, draw: (context: CanvasRenderingContext2D) => void }} Body
 */
/** @typedef {{ width: number, draw: (context: CanvasRenderingContext2D, x: number, y: number) => void }} Item */

const PAD = 16;
const LEAST_WIDTH = 280;
const LINE = 20; // pixels from one line of text to the next
const APART = 16; // between entries of a legend

/**
 * Text in lines that fit a width; a longer word has a line of its own.
 * @param {string} text
 * @param {number} width
 * @param {(text: string) => number} measure
 */
export const wrapped = (text, width, measure) => {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = `${lines[lines.length - 1]} ${word}`.trim();
    if (lines[lines.length - 1] && measure(longer) > width) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
};

/**
 * The places of items beside each other, in as many lines as they need.
 * @param {number[]} widths
 * @param {number} width
 */
export const flowed = (widths, width) => {
  let [x, line] = [0, 0];
  return widths.map((wide) => {
    if (x > 0 && x + wide > width) [x, line] = [0, line + 1];
    const place = { x, line };
    x += wide + APART;
    return place;
  });
};

/**
 * A panel's picture at the frame that it shows.
 * @param {import("./panel.js").Panel} panel
 * @returns {Body}
 */
export const picture = (panel) => {
  const { theme } = panel;
  const body = panel.body();
  const measuring = context2d(element("canvas"));
  const font = (/** @type {number} */ weight, /** @type {number} */ size) => `${weight} ${size}px ${theme.font}`;
  const measure = (/** @type {string} */ text, /** @type {string} */ style) => {
    measuring.font = style;
    return measuring.measureText(text).width;
  };
  const width = Math.max(body.width, LEAST_WIDTH);
  const [bold, plain] = [font(600, 16), font(400, 13)];
  const title = wrapped(panel.panel.title, width, (text) => measure(text, bold));
  const items = legend(panel.root, (text) => measure(text, plain));
  const widths = items.map((item) => item.width);
  const places = flowed(widths, width);
  const step = PAD + title.length * LINE;
  const first = step + LINE + 8; // of the legend
  const top = first + (items.length ? (places[places.length - 1].line + 1) * LINE + 8 : 0);
  return {
    width: Math.ceil(width + 2 * PAD),
    height: Math.ceil(top + body.height + PAD),
    draw: (context) => {
      context.fillStyle = theme.paper;
      context.fillRect(0, 0, Math.ceil(width + 2 * PAD), Math.ceil(top + body.height + PAD));
      const write = (
        /** @type {string} */ text,
        /** @type {number} */ y,
        /** @type {string} */ colour,
        /** @type {string} */ style,
      ) => {
        [context.font, context.fillStyle, context.textAlign, context.textBaseline] = [style, colour, "left", "middle"];
        context.fillText(text, PAD, y + LINE / 2);
      };
      title.forEach((text, i) => write(text, PAD + i * LINE, theme.ink, bold));
      write(`step ${count(panel.player.here)}`, step, theme.soft, plain);
      items.forEach((item, i) => {
        [context.font, context.fillStyle, context.textAlign, context.textBaseline] = [
          plain,
          theme.ink,
          "left",
          "middle",
        ];
        item.draw(context, PAD + places[i].x, first + (places[i].line + 0.5) * LINE);
      });
      context.save();
      context.translate(PAD, top);
      body.draw(context);
      context.restore();
    },
  };
};

/**
 * The legend of a panel as it is on screen: the entries of its curves or categories, and its colour scale.
 * @param {HTMLElement} root of the panel
 * @param {(text: string) => number} measure
 * @returns {Item[]}
 */
const legend = (root, measure) => {
  const keys = [...root.querySelectorAll(".keys .key")].filter((key) => key.getAttribute("aria-pressed") !== "false");
  const scale = [...(root.querySelector(".push")?.childNodes ?? [])];
  return [
    ...keys.map((key) => entry(/** @type {HTMLElement} */ (key), measure)),
    ...scale.flatMap((node) => {
      if (node instanceof HTMLCanvasElement) return [ramp(node)];
      return node instanceof HTMLButtonElement || !node.textContent ? [] : [words(node.textContent, measure)];
    }),
  ];
};

/**
 * @param {HTMLElement} key
 * @param {(text: string) => number} measure
 * @returns {Item}
 */
const entry = (key, measure) => {
  const swatch = key.querySelector("i");
  const text = [...key.childNodes]
    .filter((node) => node !== swatch && node.textContent)
    .map((node) => node.textContent);
  const { borderTopStyle, borderTopWidth, borderTopColor, backgroundColor } = getComputedStyle(swatch ?? key);
  const isLine = parseFloat(borderTopWidth) > 0;
  return {
    width: 24 + measure(text.join("  ")),
    draw: (context, x, y) => {
      context.fillText(text.join("  "), x + 24, y);
      context.fillStyle = backgroundColor;
      if (!isLine) context.fillRect(x, y - 5, 10, 10);
      context.strokeStyle = borderTopColor;
      context.lineWidth = 3;
      context.setLineDash({ dashed: [6, 4], dotted: [3, 3] }[borderTopStyle] ?? []);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + 16, y);
      if (isLine) context.stroke();
      context.setLineDash([]);
    },
  };
};

/**
 * @param {string} text
 * @param {(text: string) => number} measure
 * @returns {Item}
 */
const words = (text, measure) => ({ width: measure(text), draw: (context, x, y) => context.fillText(text, x, y) });

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {Item}
 */
const ramp = (canvas) => ({ width: 96, draw: (context, x, y) => context.drawImage(canvas, x, y - 5, 96, 10) });

/**
 * A picture on a canvas.
 * @param {Body} picture
 * @param {number} ratio pixels of the canvas to one of the page
 */
export const onCanvas = ({ width, height, draw }, ratio) => {
  const canvas = element("canvas", { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  const context = context2d(canvas);
  context.clearRect = () => {}; // a panel clears its canvas before it draws, and here also the title
  context.scale(ratio, ratio);
  draw(context);
  return canvas;
};
