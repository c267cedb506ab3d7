// A grid of maps on one colour scale; a click enlarges one.

import { CanvasPanel, Key } from "../canvas.js";
import { context2d, element } from "../dom.js";
import { brief, exact, longest, nth, oddly } from "../numbers.js";
import { clamp } from "../scales.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   maps: string[], rows: string[], columns: string[], row_axis: string, column_axis: string, low: number,
 *   high: number, full_colour_at: number | null, scale: import("../types.d.ts").Scale,
 *   outlines: [number, number, number, number][], outlined: string,
 *   values: NumberArray, frames: NumberArray | null, cells: NumberArray | null,
 * }} HeatmapsData values are (sent frame, map, sent cell); see heatmaps.py
 */
/** @typedef {{ map: number, x: number, y: number, w: number, h: number }} MapBox */

const GAP = 24; // between maps
const FOOT = 22; // for a line below the maps: the names of the axes
const LEAST_ACROSS = /** @type {[number, number]} */ ([120, 180]); // pixels of a map: of few columns, and of many

/**
 * Room for the row labels, and above for the column labels, which are turned where they are long.
 * @param {string[]} rows
 * @param {string[]} columns
 */
export const margins = (rows, columns) => ({
  left: clamp(9 * longest(rows) + 8, 20, 96),
  top: longest(columns) > 2 ? clamp(8 * longest(columns) + 8, 18, 104) : 18,
});

/**
 * @typedef {object} Sizes
 * @property {number} width of the panel
 * @property {number | null} [room] pixels of height to fill; null: as many as the maps need
 * @property {number[]} shown places of the maps to draw
 * @property {number} all how many maps there are
 * @property {number} rows
 * @property {number} columns
 * @property {{ left: number, top: number }} margin
 * @property {boolean} named whether maps have names
 * @property {number} [foot] pixels below the maps
 */

/**
 * The places of the maps that fill a room: in as many lines as make the cells largest.
 * @param {Sizes} sizes
 * @param {number} room
 */
const filling = ({ width, shown, rows, columns, margin, named, foot = FOOT }, room) => {
  const head = (named ? 24 : 0) + margin.top;
  const square = isSquare(rows, columns);
  const options = shown.map((_, i) => {
    const across = i + 1;
    const lines = Math.ceil(shown.length / across);
    const wide = ((width - GAP * (across - 1)) / across - margin.left) / columns;
    const high = ((room - foot - (lines - 1) * GAP) / lines - head) / rows;
    const [w, h] = square ? [Math.min(wide, high), Math.min(wide, high)] : [wide, high];
    return { across, lines, w, h, size: Math.min(w * columns, h * rows) };
  });
  const best = options.reduce((one, other) => (other.size > one.size ? other : one));
  const cell = { w: Math.max(best.w, 1), h: Math.max(best.h, 1) };
  const size = { w: cell.w * columns, h: cell.h * rows };
  const pitch = (width + GAP) / best.across;
  const before = (pitch - GAP - margin.left - size.w) / 2; // each map is in the middle of its place
  return {
    height: Math.ceil(best.lines * (head + size.h) + (best.lines - 1) * GAP + foot),
    cell,
    boxes: shown.map((map, i) => ({
      map,
      x: margin.left + before + (i % best.across) * pitch,
      y: head + Math.floor(i / best.across) * (head + size.h + GAP),
      ...size,
    })),
  };
};

/** @param {number} rows @param {number} columns */
const isSquare = (rows, columns) => (columns <= 96 && rows <= 96) || rows === columns;

/**
 * The places of the maps: as many in a row as leave readable cells.
 * @param {Sizes} sizes
 */
export const layout = ({ room = null, ...sizes }) => (room === null ? asLarge(sizes) : filling(sizes, room));

/** @param {Sizes} sizes */
const asLarge = ({ width, shown, all, rows, columns, margin, named, foot = FOOT }) => {
  const head = (named ? 24 : 0) + margin.top;
  const square = isSquare(rows, columns);
  const single = shown.length === 1;
  let across = shown.length;
  const room = () => (width - GAP * (across - 1)) / across - margin.left;
  const least = clamp(3 * columns, ...LEAST_ACROSS);
  while (across > 1 && room() < least) across = Math.ceil(across / 2);
  const side = all === 1 ? 480 : single ? 640 : 160; // pixels
  const wide = room() / columns;
  const w = square ? Math.min(wide, clamp(side / Math.max(rows, columns), single ? 4 : 24, 56)) : wide;
  const h = square ? w : clamp(360 / rows, 6, 24);
  const size = { w: w * columns, h: h * rows };
  const lines = Math.ceil(shown.length / across);
  const apart = margin.left + size.w + GAP;
  const pitch = square && across > 1 ? Math.min((width + GAP) / across, apart + GAP) : apart;
  return {
    height: Math.ceil(lines * (head + size.h) + (lines - 1) * GAP + foot),
    cell: { w, h },
    boxes: shown.map((map, i) => ({
      map,
      x: margin.left + (i % across) * pitch,
      y: head + Math.floor(i / across) * (head + size.h + GAP),
      ...size,
    })),
  };
};

/**
 * Reads values of a panel, of whose cells and frames not all are sent (see heatmaps.py).
 * @param {Pick<HeatmapsData, "values" | "frames" | "cells" | "rows" | "columns">} panel
 */
export const finder = ({ values, frames, cells, rows, columns }) => {
  const [, maps, sent] = values.shape;
  // The place of each cell among those sent; -1: it has no value in any frame.
  const places = new Int32Array(rows.length * columns.length).fill(-1);
  if (cells) cells.forEach((cell, i) => (places[cell] = i));
  else places.forEach((_, i) => (places[i] = i));
  const start = (/** @type {number} */ frame, /** @type {number} */ map) =>
    ((frames ? frames[frame] : frame) * maps + map) * sent;
  return {
    /** Where the values of a frame's map begin. */
    start,
    /** How many cells of each map are sent. */
    sent,
    value: (/** @type {number} */ frame, /** @type {number} */ map, /** @type {number} */ cell) =>
      places[cell] < 0 ? NaN : values[start(frame, map) + places[cell]],
    /** The largest absolute value of some maps in a frame; 0 if they have none. */
    largest: (/** @type {number} */ frame, /** @type {number[]} */ shown) => {
      let largest = 0;
      for (const map of shown) {
        const first = start(frame, map);
        for (let i = first; i < first + sent; i += 1) largest = Math.max(largest, Math.abs(values[i]) || 0);
      }
      return largest;
    },
  };
};

/**
 * The numbers of a frame: a row for each cell that has a value.
 * @param {HeatmapsData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => {
  const { value } = finder(panel);
  const rows = [];
  for (let map = 0; map < panel.maps.length; map += 1) {
    for (let cell = 0; cell < panel.rows.length * panel.columns.length; cell += 1) {
      const found = value(frame, map, cell);
      const [row, column] = [Math.floor(cell / panel.columns.length), cell % panel.columns.length];
      if (Number.isFinite(found)) rows.push([panel.maps[map], panel.rows[row], panel.columns[column], found]);
    }
  }
  return { columns: ["map", panel.row_axis, panel.column_axis, "value"], rows };
};

/** @extends {CanvasPanel<HeatmapsData>} */
export default class Heatmaps extends CanvasPanel {
  boxes = /** @type {MapBox[]} */ ([]);

  /**
   * @param {HeatmapsData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    // A colour means the same value in every snapshot, unless the reader scales the colours to the snapshot on screen.
    this.rescaled = this.toggle("rescale", false);
    this.enlarged = this.option("enlarged", null);
    this.colours = new Key(this.tools);
    this.cells = element("canvas", { width: panel.columns.length, height: panel.rows.length });
    this.pixels = context2d(this.cells).createImageData(panel.columns.length, panel.rows.length);
    this.packed = new Uint32Array(this.pixels.data.buffer);
    this.find = finder(panel);
    this.margin = margins(panel.rows, panel.columns);
    this.stage.addEventListener("click", (event) => {
      const hit = this.at(...this.local(event));
      if (hit && panel.maps.length > 1) this.enlarge(this.zoomed < 0 ? panel.maps[hit.map] : null);
    });
  }

  /** The place of the map that is enlarged; -1 if none is. */
  get zoomed() {
    const { maps } = this.panel;
    return maps.length > 1 ? maps.indexOf(this.enlarged.get()) : -1;
  }

  get isEnlarged() {
    return this.zoomed >= 0;
  }

  /** @param {string | null} name */
  enlarge(name) {
    this.hideTip();
    this.enlarged.set(name);
    if (name) this.root.scrollIntoView({ block: "nearest" });
  }

  escape() {
    if (this.zoomed >= 0) this.enlarge(null);
  }

  /**
   * Enter enlarges the first map, or shows all again; up and down enlarge the map before or after.
   * @param {string} key
   */
  press(key) {
    const { maps } = this.panel;
    const by = { ArrowUp: -1, ArrowDown: 1 }[key];
    if (maps.length < 2 || (by ? this.zoomed < 0 : key !== "Enter")) return false;
    const other = this.zoomed < 0 ? maps[0] : null;
    this.enlarge(by ? maps[(this.zoomed + by + maps.length) % maps.length] : other);
    return true;
  }

  /** The largest value of each map that is drawn. */
  summary() {
    const { panel, find } = this;
    const frame = this.player.index;
    const largest = this.boxes.map(({ map }) => {
      const first = find.start(frame, map);
      const size = (/** @type {number} */ i) => Math.abs(panel.values[first + i]) || 0;
      let best = 0;
      for (let i = 1; i < find.sent; i += 1) if (size(i) > size(best)) best = i;
      const cell = panel.cells ? panel.cells[best] : best;
      const [row, column] = [Math.floor(cell / panel.columns.length), cell % panel.columns.length];
      const place = `${panel.row_axis} ${panel.rows[row]}, ${panel.column_axis} ${panel.columns[column]}`;
      return `${panel.maps[map]} largest at ${place}: ${brief(panel.values[first + best])}`.trim();
    });
    return largest.join("; ") + (panel.maps.length > 1 ? ". Enter enlarges a map, up and down change it" : "");
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  layout() {
    const { panel, theme, margin, zoomed } = this;
    const width = this.root.clientWidth - 1; // one pixel for the last map's frame
    if (width <= 0) return;
    this.stage.classList.toggle("zoomable", panel.maps.length > 1 && zoomed < 0);
    this.stage.classList.toggle("zoomed", zoomed >= 0);
    const outlined = panel.outlines.length ? panel.outlined : "";
    const { height, cell, boxes } = layout({
      width,
      room: this.room,
      shown: zoomed >= 0 ? [zoomed] : panel.maps.map((_, i) => i),
      all: panel.maps.length,
      rows: panel.rows.length,
      columns: panel.columns.length,
      margin,
      named: panel.maps.some(Boolean),
      foot: outlined ? 2 * FOOT : FOOT,
    });
    if (!this.fit(height)) return;
    this.boxes = boxes;
    const { base: context } = this;
    context.clearRect(0, 0, this.width, this.height);
    for (const box of boxes) {
      const isChosen = panel.maps.length > 1 && panel.maps[box.map] === this.player.chosen;
      const style = { weight: isChosen ? 800 : 600, colour: isChosen ? theme.cursor : theme.ink };
      this.write(context, panel.maps[box.map], box.x, box.y - margin.top - 12, style);
      context.fillStyle = theme.wash; // shows where a cell has no value
      context.fillRect(box.x, box.y, box.w, box.h);
      context.strokeStyle = isChosen ? theme.cursor : theme.line;
      context.lineWidth = isChosen ? 3 : 1;
      const off = context.lineWidth / 2;
      context.strokeRect(box.x - off, box.y - off, box.w + 2 * off, box.h + 2 * off);
      this.labels(context, box, cell);
    }
    const { row, column } = this.every(cell);
    const axes = `${panel.row_axis}${nth(row)} ↓   ${panel.column_axis}${nth(column)} →`;
    const [{ x }, line] = [boxes[0], this.height - 8]; // the last line below the maps
    this.write(context, axes, x, outlined ? line - FOOT : line);
    if (outlined) {
      context.strokeStyle = theme.palette[1];
      context.lineWidth = 1.5;
      context.strokeRect(x, line - 5, 10, 10);
      this.write(context, outlined, x + 16, line);
    }
    this.colours.paint(theme.ramps[panel.scale], panel);
  }

  /**
   * How many rows, and how many columns, share one label, so that no label lies on another.
   * @param {{ w: number, h: number }} cell
   */
  every({ w, h }) {
    const turned = this.margin.top > 18;
    const wide = turned ? Math.max(12, this.least) : longest(this.panel.columns) * Math.max(8, this.least);
    return { row: oddly(Math.max(9, this.least - 2) / h), column: oddly(wide / w) };
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {MapBox} box
   * @param {{ w: number, h: number }} cell
   */
  labels(context, box, { w, h }) {
    const { panel } = this;
    const every = this.every({ w, h });
    panel.rows.forEach((label, r) => {
      if (r % every.row) return;
      this.write(context, label, box.x - 6, box.y + (r + 0.5) * h, { align: "right", size: clamp(h, 11, 15) });
    });
    const turned = this.margin.top > 18;
    panel.columns.forEach((label, c) => {
      if (c % every.column) return;
      const [x, y] = [box.x + (c + 0.5) * w, box.y - 6];
      if (turned) this.write(context, label, x, y, { size: 11, turned });
      else this.write(context, label, x, y - 4, { align: "center", size: clamp(w, 11, 15) });
    });
  }

  live() {
    if (!this.top || !this.boxes.length) return;
    const { top: context, panel, packed, find } = this;
    const { values, cells, rows, columns } = panel;
    const frame = this.player.index;
    const colours = this.theme.ramps[panel.scale];
    const own =
      this.rescaled() &&
      find.largest(
        frame,
        this.boxes.map(({ map }) => map),
      );
    const high = own || panel.full_colour_at || panel.high;
    const low = panel.scale === "diverging" ? -high : Math.min(panel.low, high);
    const slope = 255 / (high - low || 1);
    this.colours.say(own ? { low, high, scale: panel.scale } : panel);
    context.clearRect(0, 0, this.width, this.height);
    context.imageSmoothingEnabled = false;
    if (this.isGap) this.drawGap(context, this.boxes);
    for (const box of this.isGap ? [] : this.boxes) {
      const start = find.start(frame, box.map);
      for (let i = 0; i < find.sent; i += 1) {
        const level = slope * (values[start + i] - low);
        packed[cells ? cells[i] : i] = Number.isFinite(level) ? colours[clamp((level + 0.5) | 0, 0, 255)] : 0;
      }
      context2d(this.cells).putImageData(this.pixels, 0, 0);
      context.drawImage(this.cells, box.x, box.y, box.w, box.h);
      context.strokeStyle = this.theme.palette[1];
      context.lineWidth = 1.5;
      const [w, h] = [box.w / columns.length, box.h / rows.length];
      for (const [row, column, height, width] of panel.outlines) {
        context.strokeRect(box.x + column * w, box.y + row * h, width * w, height * h);
      }
    }
    if (this.pointer) this.retip();
  }

  /**
   * The cell at a place.
   * @param {number} x
   * @param {number} y
   */
  at(x, y) {
    const [rows, columns] = [this.panel.rows.length, this.panel.columns.length];
    for (const box of this.boxes) {
      const column = Math.floor(((x - box.x) / box.w) * columns);
      const row = Math.floor(((y - box.y) / box.h) * rows);
      if (column < 0 || row < 0 || column >= columns || row >= rows) continue;
      return { map: box.map, row, column, value: this.find.value(this.player.index, box.map, row * columns + column) };
    }
    return null;
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const hit = this.at(x, y);
    if (!hit) return null;
    const { panel } = this;
    const row = `${panel.row_axis} ${panel.rows[hit.row]} (${hit.row})`;
    const column = `${panel.column_axis} ${panel.columns[hit.column]} (${hit.column})`;
    const value = Number.isFinite(hit.value) ? exact(hit.value) : "masked";
    return `${panel.maps[hit.map]}  ${row}, ${column}`.trim() + `: ${value}`;
  }
}
