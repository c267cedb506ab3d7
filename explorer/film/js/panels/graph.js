// Components as nodes in rows, and the edges between them: those of the circuit in full, the others faint.

import { CanvasPanel } from "../canvas.js";
import { brief, exact, fitting } from "../numbers.js";
import { listed } from "../spoken.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/** @typedef {import("../canvas.js").Area} Area */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   nodes: string[], rows: number[], senders: number[], receivers: number[], values: NumberArray, kept: NumberArray,
 *   thickest_at: number, unit: string, empty: string,
 * }} GraphData values and kept are (frame, edge)
 */
/** @typedef {number[]} Path the x and y of the two ends and, between them, of the two control points */

const WIDEST = 12; // pixels of an edge with a full value
const LEAST_SHARE = 0.005; // of a full value: a faint edge with less is not drawn
const PER_ROW = 96; // pixels
const FOOT = 40;
const NODE = { width: 92, height: 34, apart: 56 };
const FAINT = 0.22; // opacity of an edge that is not kept
const NEAR = 7; // pixels from an edge at which it is pointed at
const ASIDE = 24; // pixels by which an edge is led aside, again and again, until it passes no node
const ALONG = Array.from({ length: 25 }, (_, i) => i / 24); // places along an edge

/**
 * A place along a path.
 * @param {Path} path
 * @param {number} t from 0 to 1
 */
const pointAt = ([x0, y0, x1, y1, x2, y2, x3, y3], t) => {
  const u = 1 - t;
  const [a, b, c, d] = [u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t];
  return [a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3];
};

/**
 * Whether a path passes through an area, or close to it.
 * @param {Path} path
 * @param {Area} area
 */
const meets = (path, { x, y, w, h }) =>
  ALONG.some((t) => {
    const [px, py] = pointAt(path, t);
    return px > x - 6 && px < x + w + 6 && py > y && py < y + h;
  });

/**
 * The places of all that is drawn.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number | null} [sizes.room] height to fill; null: as it likes
 * @param {number} [sizes.least] the least size of type
 * @param {number[]} sizes.rows of the nodes
 * @param {number[]} sizes.senders of the edges
 * @param {number[]} sizes.receivers of the edges
 */
export const layout = ({ width, room = null, least = 0, rows, senders, receivers }) => {
  const grown = Math.max(least / 13, 1);
  const foot = FOOT * grown;
  const n = Math.max(...rows) + 1;
  const height = room ?? foot + PER_ROW * grown * n;
  const pitch = (height - foot) / n;
  const nodes = rows.map((row, i) => {
    const members = rows.flatMap((other, k) => (other === row ? [k] : []));
    const across = Math.min(width / members.length, (NODE.width + NODE.apart) * grown);
    const w = Math.min(NODE.width * grown, 0.85 * across);
    const h = Math.min(NODE.height * grown, 0.5 * pitch);
    const left = (width - across * members.length) / 2;
    return { x: left + (members.indexOf(i) + 0.5) * across - w / 2, y: (row + 0.5) * pitch - h / 2, w, h };
  });
  const middle = (/** @type {number} */ node) => nodes[node].x + nodes[node].w / 2;
  /** The edges of a node side by side, in the order of their other ends. */
  const port = (/** @type {number[]} */ ends, /** @type {number[]} */ others, /** @type {number} */ edge) => {
    const mates = ends.flatMap((end, k) => (end === ends[edge] ? [k] : []));
    mates.sort((one, other) => middle(others[one]) - middle(others[other]) || one - other);
    const { x, w } = nodes[ends[edge]];
    return x + (w * (mates.indexOf(edge) + 1)) / (mates.length + 1);
  };
  const paths = senders.map((sender, edge) => {
    const receiver = receivers[edge];
    const [x0, y0] = [port(senders, receivers, edge), nodes[sender].y + nodes[sender].h];
    const [x1, y1] = [port(receivers, senders, edge), nodes[receiver].y];
    const bend = Math.min((y1 - y0) / 2, pitch);
    const aside = (/** @type {number} */ by) => [x0, y0, x0 + by, y0 + bend, x1 + by, y1 - bend, x1, y1];
    const between = nodes.filter((_, k) => rows[k] > rows[sender] && rows[k] < rows[receiver]);
    const outwards = (x0 + x1) / 2 < width / 2 ? -1 : 1;
    for (let by = 0; between.length && by < width; by += ASIDE) {
      for (const side of [outwards, -outwards]) {
        const path = aside(by * side);
        const isWithin = ALONG.every((t) => pointAt(path, t)[0] > 4 && pointAt(path, t)[0] < width - 4);
        if (isWithin && !between.some((node) => meets(path, node))) return path;
      }
    }
    return aside(0);
  });
  return { height, nodes, paths };
};

/**
 * The edges of a frame that have a value, each with its place, largest first.
 * @param {Pick<GraphData, "values" | "kept" | "senders">} panel
 * @param {number} frame
 */
export const edgesOf = ({ values, kept, senders }, frame) =>
  senders
    .map((_, edge) => {
      const at = frame * senders.length + edge;
      return { edge, value: values[at], isKept: kept[at] === 1 };
    })
    .filter(({ value }) => Number.isFinite(value))
    .sort((one, other) => Math.abs(other.value) - Math.abs(one.value));

/**
 * The numbers of a frame.
 * @param {GraphData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => ({
  columns: ["sender", "receiver", panel.unit, "in the circuit"],
  rows: panel.senders.map((sender, edge) => {
    const at = frame * panel.senders.length + edge;
    const isKept = Number.isFinite(panel.kept[at]) ? (panel.kept[at] ? "yes" : "no") : "";
    return [panel.nodes[sender], panel.nodes[panel.receivers[edge]], panel.values[at], isKept];
  }),
});

/**
 * How many edges the circuit of a frame has, in words.
 * @param {GraphData} panel
 * @param {number} frame
 */
export const counted = (panel, frame) => {
  const found = edgesOf(panel, frame);
  if (!found.length) return panel.empty;
  return `${found.filter(({ isKept }) => isKept).length} of ${panel.senders.length} edges in the circuit`;
};

/** @extends {CanvasPanel<GraphData>} */
export default class Graph extends CanvasPanel {
  at = /** @type {ReturnType<typeof layout> | null} */ (null);

  /**
   * @param {GraphData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.all = this.toggle("all edges", true);
    this.stage.addEventListener("click", (event) => this.choose(...this.local(event)));
  }

  /** The place of the chosen node; -1 if none of these is chosen. */
  get chosen() {
    return this.panel.nodes.indexOf(this.player.chosen ?? "");
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  choose(x, y) {
    const node = this.nodeAt(x, y);
    this.player.choose(node < 0 || node === this.chosen ? null : this.panel.nodes[node]);
  }

  escape() {
    if (this.chosen >= 0) this.player.choose(null);
  }

  /**
   * Up and down choose another node.
   * @param {string} key
   */
  press(key) {
    const { nodes } = this.panel;
    const by = { ArrowUp: -1, ArrowDown: 1 }[key];
    if (!by) return false;
    this.player.choose(nodes[(Math.max(this.chosen, by < 0 ? 0 : -1) + by + nodes.length) % nodes.length]);
    return true;
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  /** @param {number} edge */
  named(edge) {
    const { nodes, senders, receivers } = this.panel;
    return `${nodes[senders[edge]]} → ${nodes[receivers[edge]]}`;
  }

  /** The edges of the circuit, or those of the chosen node. */
  summary() {
    const { panel, chosen } = this;
    const frame = this.player.index;
    const ofNode = (/** @type {number} */ edge) => [panel.senders[edge], panel.receivers[edge]].includes(chosen);
    const shown = edgesOf(panel, frame).filter(({ edge, isKept }) => (chosen < 0 ? isKept : ofNode(edge)));
    const names = listed(shown.map(({ edge, value }) => [this.named(edge), value]));
    const whose = chosen < 0 ? "" : `; edges of ${panel.nodes[chosen]}`;
    return `${counted(panel, frame)}${whose}${names && `: ${names}`}. Up and down choose a node`;
  }

  layout() {
    const { panel, least, room } = this;
    const { rows, senders, receivers } = panel;
    const width = this.root.clientWidth;
    if (width <= 0) return;
    this.at = layout({ width, room, least, rows, senders, receivers });
    if (this.fit(this.at.height)) this.base.clearRect(0, 0, this.width, this.height);
  }

  /** The edges that are drawn in this frame, the thickest last. */
  get drawn() {
    const { panel, all } = this;
    return edgesOf(panel, this.player.index)
      .filter(({ value, isKept }) => isKept || (all() && Math.abs(value) >= LEAST_SHARE * panel.thickest_at))
      .sort((one, other) => Number(one.isKept) - Number(other.isKept) || Math.abs(one.value) - Math.abs(other.value));
  }

  live() {
    const { top: context, panel, theme, at, chosen } = this;
    if (!context || !at) return;
    context.clearRect(0, 0, this.width, this.height);
    if (this.isGap) {
      this.drawGap(context, at.nodes);
      return;
    }
    const inCircuit = new Set();
    for (const { edge, value, isKept } of this.drawn) {
      const ends = [panel.senders[edge], panel.receivers[edge]];
      if (isKept) ends.forEach((end) => inCircuit.add(end));
      const isOther = chosen >= 0 && !ends.includes(chosen);
      context.globalAlpha = (isKept ? 0.9 : FAINT) * (isOther ? 0.25 : 1);
      context.strokeStyle = theme.palette[value < 0 ? 1 : 0];
      context.lineWidth = 1 + WIDEST * Math.min(1, Math.abs(value) / panel.thickest_at);
      this.line(context, at.paths[edge]);
    }
    context.globalAlpha = 1;
    panel.nodes.forEach((name, i) => this.node(context, at.nodes[i], name, inCircuit.has(i), i === chosen));
    this.foot(context);
    if (this.pointer) this.retip();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Path} path
   */
  line(context, [x0, y0, x1, y1, x2, y2, x3, y3]) {
    context.beginPath();
    context.moveTo(x0, y0);
    context.bezierCurveTo(x1, y1, x2, y2, x3, y3);
    context.stroke();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Area} area
   * @param {string} name
   * @param {boolean} isIn the circuit
   * @param {boolean} isChosen
   */
  node(context, { x, y, w, h }, name, isIn, isChosen) {
    const { theme } = this;
    context.fillStyle = isIn ? theme.wash : theme.paper;
    context.strokeStyle = isChosen ? theme.cursor : isIn ? theme.ink : theme.line;
    context.lineWidth = isChosen ? 3 : 1;
    context.beginPath();
    context.roundRect(x, y, w, h, 6);
    context.fill();
    context.stroke();
    const letters = Math.max(3, Math.floor(w / (0.55 * Math.max(13, this.least))));
    const style = /** @type {const} */ ({ size: 13, align: "center", colour: isIn ? theme.ink : theme.soft });
    this.write(context, fitting(name, 7 * letters), x + w / 2, y + h / 2, { ...style, weight: isIn ? 600 : 400 });
  }

  /**
   * What the circuit is in this frame, and what the colours mean.
   * @param {CanvasRenderingContext2D} context
   */
  foot(context) {
    const { theme, panel } = this;
    const y = this.height - 12;
    const text = counted(panel, this.player.index);
    this.write(context, text, 4, y, { size: 14, weight: 600, colour: theme.ink });
    if (text === panel.empty) return;
    let x = this.width - 4;
    for (const [meaning, colour] of /** @type {[string, string][]} */ ([
      ["works against it", theme.palette[1]],
      ["carries the answer", theme.palette[0]],
    ])) {
      this.write(context, meaning, x, y, { align: "right" });
      x -= this.textWidth(context, meaning) + 28;
      if (x < this.textWidth(context, text, 14) + 24) return;
      context.strokeStyle = colour;
      context.lineWidth = 4;
      this.line(context, [x, y, x, y, x + 20, y, x + 20, y]);
      x -= 16;
    }
  }

  /**
   * The place of the node at a point; -1: none.
   * @param {number} x
   * @param {number} y
   */
  nodeAt(x, y) {
    const nodes = this.at?.nodes ?? [];
    return nodes.findIndex((area) => x >= area.x && x < area.x + area.w && y >= area.y && y < area.y + area.h);
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const { panel, at } = this;
    const node = this.nodeAt(x, y);
    if (!at) return null;
    if (node >= 0) {
      const [from, to] = [panel.receivers, panel.senders].map((ends) =>
        edgesOf(panel, this.player.index).filter(({ edge, isKept }) => isKept && ends[edge] === node),
      );
      const said = [...from, ...to].map(({ edge, value }) => `${this.named(edge)} ${brief(value)}`);
      return `${panel.nodes[node]}${said.length ? `, in the circuit: ${said.join(", ")}` : ", not in the circuit"}`;
    }
    const far = (/** @type {{ edge: number }} */ { edge }) =>
      Math.min(
        ...ALONG.map((t) => {
          const [px, py] = pointAt(at.paths[edge], t);
          return Math.hypot(px - x, py - y);
        }),
      );
    const near = this.drawn.map((one) => ({ ...one, far: far(one) })).filter((one) => one.far < NEAR);
    if (!near.length) return null;
    const { edge, value, isKept } = near.reduce((one, other) => (other.far < one.far ? other : one));
    return `${this.named(edge)}: ${exact(value)}, ${panel.unit}${isKept ? "; in the circuit" : ""}`;
  }
}
