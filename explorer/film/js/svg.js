// A picture as SVG. Its lines, areas and texts stay what they are.

import { css } from "./colour.js";
import { context2d } from "./dom.js";
import { Context } from "./vendor/svgcanvas.js";

const MOST_CELLS = 65_536; // of a map that is drawn as areas; one of more is an image within the SVG

/**
 * @param {import("./picture.js").Body} picture
 * @returns {string}
 */
export const svgOf = ({ width, height, draw }) => {
  const context = new Context({ width, height });
  const image = context.drawImage.bind(context);
  context.clearRect = () => {}; // a panel clears its canvas before it draws, and here also the title
  context.drawImage = (/** @type {any[]} */ ...of) => {
    const [canvas, x, y, w, h] = /** @type {[HTMLCanvasElement, number, number, number, number]} */ (of);
    if (canvas.width * canvas.height <= MOST_CELLS) cells(context, canvas, { x, y, w, h });
    else image(canvas, x, y, w, h);
  };
  draw(context);
  const svg = context.getSvg();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  for (const one of svg.querySelectorAll("image")) one.setAttribute("style", "image-rendering: pixelated");
  return context.getSerializedSvg();
};

/**
 * Draw the pixels of a canvas as areas: those of one colour as one path, and equal neighbours in a row as one rectangle.
 * @param {CanvasRenderingContext2D & { getSvg(): SVGSVGElement }} context
 * @param {HTMLCanvasElement} canvas
 * @param {import("./canvas.js").Area} area
 */
const cells = (context, canvas, { x, y, w, h }) => {
  const { width, height } = canvas;
  const { data } = context2d(canvas).getImageData(0, 0, width, height);
  const packed = new Uint32Array(data.buffer);
  const paths = /** @type {Map<number, string[]>} */ (new Map());
  for (let row = 0; row < height; row += 1) {
    for (let from = 0; from < width;) {
      const colour = packed[row * width + from];
      let to = from + 1;
      while (to < width && packed[row * width + to] === colour) to += 1;
      if (!paths.has(colour)) paths.set(colour, []);
      paths.get(colour)?.push(`M${from} ${row}h${to - from}v1h${from - to}z`);
      from = to;
    }
  }
  const svg = context.getSvg();
  context.save(); // begins a group where the context draws
  const group = /** @type {SVGGElement} */ ([...svg.querySelectorAll("g")].at(-1));
  const { a, b, c, d, e, f } = context
    .getTransform()
    .translate(x, y)
    .scale(w / width, h / height);
  group.setAttribute("transform", `matrix(${[a, b, c, d, e, f].join(" ")})`);
  group.setAttribute("shape-rendering", "crispEdges"); // no seams between cells
  for (const [colour, parts] of paths) {
    if (!(colour >>> 24)) continue; // no value
    const path = document.createElementNS(group.namespaceURI, "path");
    path.setAttribute("fill", css(colour));
    path.setAttribute("d", parts.join(""));
    group.append(path);
  }
  context.restore();
};
