// The model as a drawing: the tokens above, its parts in rows below them, the answers at the foot.

import { CanvasPanel, Key } from "../canvas.js";
import { readable, unpacked } from "../colour.js";
import { element } from "../dom.js";
import { brief, exact, fitting } from "../numbers.js";
import { clamp } from "../scales.js";

/** @typedef {import("../types.d.ts").NumberArray} NumberArray */
/**
 * @typedef {import("../types.d.ts").PanelData & {
 *   tokens: string[], places: string[], answers: string[], asked: number, asks: number[], parts: string[], rows: number[],
 *   heads: number[], attention: NumberArray, added: NumberArray, probability: NumberArray, full_colour_at: number,
 *   unit: string, ablatable: number[], ablated: string[], scale: import("../types.d.ts").Scale,
 * }} DiagramData attention is (frame, answer, head, token), added (frame, answer, part), probability (frame, answer)
 */
/** @typedef {{ x: number, y: number, w: number, h: number }} Area */

const LEAST_ATTENTION = 0.02; // thinner lines are not drawn: they would only make a haze
const WIDEST = 7; // pixels of a line that stands for an attention of 1, or for a full colour
const HEAD = 34; // pixels for the tokens
const FOOT = 66; // for the answers and the line below them
const PER_ROW = 104;
const LEAST_ROWS = 1.4; // the room for lines above a single row
const APART = 12; // pixels between parts

/**
 * The places of all that is drawn.
 * @param {object} sizes
 * @param {number} sizes.width of the panel
 * @param {number | null} [sizes.room] height to fill; null: as it likes
 * @param {number} [sizes.least] the least size of type
 * @param {number} sizes.tokens
 * @param {number[]} sizes.rows of the parts
 * @param {number} sizes.answers
 */
export const layout = ({ width, room = null, least = 0, tokens, rows, answers }) => {
  const n = Math.max(...rows) + 1;
  const grown = Math.max(least / 13, 1);
  const [head, foot] = [HEAD * grown, FOOT * grown];
  const height = room ?? head + foot + PER_ROW * Math.max(n, LEAST_ROWS);
  const cells = (/** @type {number} */ count, /** @type {number} */ y, /** @type {number} */ h) => {
    const pitch = Math.min(40 * grown, width / count);
    const left = (width - pitch * count) / 2;
    const gap = Math.min(4, pitch / 8);
    return Array.from({ length: count }, (_, i) => ({ x: left + i * pitch + gap / 2, y, w: pitch - gap, h }));
  };
  const pitch = (height - head - foot) / n;
  const parts = rows.map((row, p) => {
    const members = rows.flatMap((other, q) => (other === row ? [q] : []));
    const across = width / members.length;
    const [w, h] = [Math.min(across - APART, 116 * grown), 40 * grown];
    const y = head + (row + 0.6) * pitch - h / 2; // lines to a row need more room than those from it
    return { x: (members.indexOf(p) + 0.5) * across - w / 2, y, w, h };
  });
  const foots = cells(answers, height - foot + 6, 30 * grown);
  return { height, tokens: cells(tokens, 4, head - 8), parts, answers: foots };
};

/**
 * Reads the values of a panel.
 * @param {Pick<DiagramData, "attention" | "added" | "probability" | "parts" | "heads" | "tokens" | "answers">} panel
 */
export const finder = ({ attention, added, probability, parts, heads, tokens, answers }) => ({
  attention: (
    /** @type {number} */ frame,
    /** @type {number} */ answer,
    /** @type {number} */ head,
    /** @type {number} */ token,
  ) => attention[((frame * answers.length + answer) * heads.length + head) * tokens.length + token],
  added: (/** @type {number} */ frame, /** @type {number} */ answer, /** @type {number} */ part) =>
    added[(frame * answers.length + answer) * parts.length + part],
  probability: (/** @type {number} */ frame, /** @type {number} */ answer) =>
    probability[frame * answers.length + answer],
});

/**
 * The numbers of a frame, for all answers.
 * @param {DiagramData} panel
 * @param {number} frame
 * @returns {import("../types.d.ts").Table}
 */
export const table = (panel, frame) => {
  const find = finder(panel);
  const rows = panel.answers.flatMap((right, a) => {
    const answer = `${panel.places[a]}: ${right}`;
    return [
      [answer, "", "probability", find.probability(frame, a)],
      ...panel.parts.map((name, p) => [answer, name, `adds, ${panel.unit}`, find.added(frame, a, p)]),
      ...panel.heads.flatMap((p, h) =>
        panel.tokens.flatMap((token, t) => {
          const value = find.attention(frame, a, h, t);
          return t <= panel.asks[a] ? [[answer, panel.parts[p], `attention to ${t}: ${token}`, value]] : [];
        }),
      ),
    ];
  });
  return { columns: ["answer", "part", "what", "value"], rows };
};

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Area} from
 * @param {Area} to below it
 */
const curve = (context, from, to) => {
  const [x0, y0, x1, y1] = [from.x + from.w / 2, from.y + from.h, to.x + to.w / 2, to.y];
  const bend = (y1 - y0) * 0.5;
  context.beginPath();
  context.moveTo(x0, y0);
  context.bezierCurveTo(x0, y0 + bend, x1, y1 - bend, x1, y1);
  context.stroke();
};

/** @extends {CanvasPanel<DiagramData>} */
export default class Diagram extends CanvasPanel {
  at = /** @type {ReturnType<typeof layout> | null} */ (null);

  /**
   * @param {DiagramData} panel
   * @param {import("../player.js").Player} player
   */
  constructor(panel, player) {
    super(panel, player);
    this.find = finder(panel);
    this.asked = this.option("answer", String(panel.asked));
    this.colours = new Key(this.tools);
    if (player.onAsk) {
      this.ablating = element("button", { class: "switch", type: "button" });
      this.ablating.onclick = () => this.ablate();
      this.tools.prepend(this.ablating);
    }
    this.stage.addEventListener("click", (event) => this.choose(...this.local(event)));
  }

  /** The place of the answer that the reader has chosen. */
  get answer() {
    const wanted = Number(this.asked.get());
    return Number.isInteger(wanted) ? clamp(wanted, 0, this.panel.answers.length - 1) : 0;
  }

  /** The place of the chosen part; -1 if none of these is chosen. */
  get chosen() {
    return this.panel.parts.indexOf(this.player.chosen ?? "");
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  choose(x, y) {
    const { answer, part } = this.hit(x, y);
    if (answer >= 0) this.asked.set(String(answer));
    else this.player.choose(part < 0 || part === this.chosen ? null : this.panel.parts[part]);
  }

  escape() {
    if (this.chosen >= 0) this.player.choose(null);
  }

  /** Ask for the film without the chosen part, or with it again. */
  ablate() {
    const { chosen, panel, player } = this;
    if (panel.ablatable.includes(chosen)) player.onAsk?.(`ablate ${panel.parts[chosen]}`);
  }

  /**
   * Up and down choose another part, Enter the next answer.
   * @param {string} key
   */
  press(key) {
    const { parts, answers } = this.panel;
    const by = { ArrowUp: -1, ArrowDown: 1 }[key];
    if (by) this.player.choose(parts[(Math.max(this.chosen, by < 0 ? 0 : -1) + by + parts.length) % parts.length]);
    else if (key === "Enter") this.asked.set(String((this.answer + 1) % answers.length));
    else return false;
    return true;
  }

  /**
   * What is at a place; -1: none.
   * @param {number} x
   * @param {number} y
   */
  hit(x, y) {
    const within = (/** @type {Area} */ area) =>
      x >= area.x && x < area.x + area.w && y >= area.y && y < area.y + area.h;
    const { tokens = [], parts = [], answers = [] } = this.at ?? {};
    return { token: tokens.findIndex(within), part: parts.findIndex(within), answer: answers.findIndex(within) };
  }

  /** @param {number} frame */
  table(frame) {
    return table(this.panel, frame);
  }

  /** What the largest parts add to the chosen answer. */
  summary() {
    const { panel, find, answer } = this;
    const frame = this.player.index;
    const most = panel.parts
      .map((name, p) => /** @type {[string, number]} */ ([name, find.added(frame, answer, p)]))
      .sort(([, one], [, other]) => Math.abs(other) - Math.abs(one))
      .slice(0, 3)
      .map(([name, value]) => `${name} adds ${brief(value)}`);
    const probability = exact(100 * find.probability(frame, answer));
    return `${this.named(answer)} with probability ${probability} %: ${most.join(", ")} ${panel.unit}. Up and down choose a part, Enter the next answer`;
  }

  /** @param {number} answer */
  named(answer) {
    const { places, answers } = this.panel;
    return places[answer] === answers[answer] ? answers[answer] : `${places[answer]}: ${answers[answer]}`;
  }

  layout() {
    const { panel, theme, chosen, least, answer } = this;
    const { tokens, rows, answers } = panel;
    const width = this.root.clientWidth;
    if (width <= 0) return;
    this.at = layout({ width, room: this.room, least, tokens: tokens.length, rows, answers: answers.length });
    if (!this.fit(this.at.height)) return;
    const { base: context, at } = this;
    context.clearRect(0, 0, this.width, this.height);
    const asks = panel.asks[answer];
    tokens.forEach((text, t) => this.cell(context, at.tokens[t], text, t > asks ? theme.soft : theme.ink));
    context.fillStyle = theme.cursor; // the place from which heads look
    context.fillRect(at.tokens[asks].x, at.tokens[asks].y + at.tokens[asks].h - 3, at.tokens[asks].w, 3);
    answers.forEach((text, a) => this.cell(context, at.answers[a], text, a === answer ? theme.ink : theme.soft));
    this.ring(context, at.answers[answer], theme.cursor);
    this.colours.paint(theme.ramps.diverging, this.scaled);
    if (!this.ablating) return;
    this.ablating.hidden = !panel.ablatable.includes(chosen);
    const name = panel.parts[chosen];
    this.ablating.textContent = panel.ablated.includes(name) ? `restore ${name}` : `ablate ${name}`;
  }

  get scaled() {
    const { full_colour_at: full, scale } = this.panel;
    return { low: -full, high: full, full_colour_at: full, scale };
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Area} area
   * @param {string} text
   * @param {string} colour
   */
  cell(context, area, text, colour) {
    context.fillStyle = this.theme.wash;
    context.fillRect(area.x, area.y, area.w, area.h);
    const size = clamp(area.w * 0.6, 9, 16);
    const letters = Math.max(1, Math.floor(area.w / (0.55 * size)));
    if (area.w < 7) return; // nobody could read it
    const shown = text.length > letters ? text.slice(0, letters) : text;
    this.write(context, shown, area.x + area.w / 2, area.y + area.h / 2, {
      size,
      weight: 600,
      align: "center",
      colour,
    });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Area} area
   * @param {string} colour
   */
  ring(context, { x, y, w, h }, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.strokeRect(x - 1, y - 1, w + 2, h + 2);
  }

  /** The colour of what a part adds. @param {number} value */
  hue(value) {
    const level = Math.round(clamp(127.5 + (127.5 * value) / this.panel.full_colour_at, 0, 255));
    return unpacked(this.theme.ramps.diverging[level]);
  }

  live() {
    const { top: context, panel, theme, find, at, answer, chosen } = this;
    if (!context || !at) return;
    const frame = this.player.index;
    context.clearRect(0, 0, this.width, this.height);
    if (this.isGap) {
      this.drawGap(context, at.parts);
      return;
    }
    const dim = (/** @type {number} */ part) => (chosen >= 0 && chosen !== part ? 0.25 : 1);
    panel.heads.forEach((part, h) => {
      context.strokeStyle = part === chosen ? theme.cursor : theme.soft;
      for (let t = 0; t <= panel.asks[answer]; t += 1) {
        const value = find.attention(frame, answer, h, t);
        if (!(value >= LEAST_ATTENTION)) continue;
        context.globalAlpha = dim(part) * (0.2 + 0.7 * value);
        context.lineWidth = 0.5 + WIDEST * value;
        curve(context, at.tokens[t], at.parts[part]);
      }
    });
    panel.parts.forEach((_, p) => {
      const value = find.added(frame, answer, p);
      const share = Math.min(1, Math.abs(value) / panel.full_colour_at);
      if (!(share >= LEAST_ATTENTION)) return;
      context.globalAlpha = dim(p) * 0.8;
      context.strokeStyle = theme.palette[value < 0 ? 1 : 0];
      context.lineWidth = 0.5 + WIDEST * share;
      curve(context, at.parts[p], at.answers[answer]);
    });
    context.globalAlpha = 1;
    panel.parts.forEach((name, p) => this.part(context, at.parts[p], name, find.added(frame, answer, p), p === chosen));
    const probability = find.probability(frame, answer);
    const text = `${this.named(answer)} with probability ${probability.toFixed(3)}`;
    const { x, w } = at.answers[answer];
    const half = this.textWidth(context, text, 14) / 2 + 4;
    const middle = clamp(x + w / 2, half, Math.max(this.width - half, half));
    this.write(context, text, middle, this.height - 14, { size: 14, weight: 600, align: "center", colour: theme.ink });
    if (this.pointer) this.retip();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Area} area
   * @param {string} name
   * @param {number} value what it adds
   * @param {boolean} isChosen
   */
  part(context, area, name, value, isChosen) {
    const { theme } = this;
    const isOff = this.panel.ablated.includes(name);
    const fill = this.hue(Number.isFinite(value) ? value : 0);
    context.fillStyle = isOff ? theme.paper : `rgb(${fill.join(", ")})`;
    context.beginPath();
    context.roundRect(area.x, area.y, area.w, area.h, 6);
    context.fill();
    context.strokeStyle = isChosen ? theme.cursor : theme.soft;
    context.lineWidth = isChosen ? 3 : 1;
    context.setLineDash(isOff ? [4, 4] : []);
    context.stroke();
    context.setLineDash([]);
    const colour = isOff ? theme.soft : readable(fill);
    const x = area.x + area.w / 2;
    const letters = Math.max(3, Math.floor(area.w / (0.55 * Math.max(13, this.least))));
    const style = /** @type {const} */ ({ align: "center", colour });
    this.write(context, fitting(name, 7 * letters), x, area.y + area.h * 0.3, { ...style, size: 13, weight: 600 });
    const said = isOff ? "ablated" : `${value > 0 ? "+" : ""}${brief(value)}`;
    this.write(context, said, x, area.y + area.h * 0.7, { ...style, size: 13 });
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  under(x, y) {
    const { panel, find, answer, chosen } = this;
    const frame = this.player.index;
    const { token, part, answer: over } = this.hit(x, y);
    if (part >= 0) {
      const added = `adds ${exact(find.added(frame, answer, part))} ${panel.unit} to ${this.named(answer)}`;
      const h = panel.heads.indexOf(part);
      if (h < 0) return `${panel.parts[part]} ${added}`;
      let most = 0;
      for (let t = 1; t <= panel.asks[answer]; t += 1) {
        if (find.attention(frame, answer, h, t) > find.attention(frame, answer, h, most)) most = t;
      }
      const share = exact(find.attention(frame, answer, h, most));
      return `${panel.parts[part]} ${added}; it looks most at place ${most}, ${panel.tokens[most]}, with ${share}`;
    }
    const h = panel.heads.indexOf(chosen);
    if (token >= 0 && h >= 0 && token <= panel.asks[answer]) {
      const share = exact(find.attention(frame, answer, h, token));
      return `${panel.parts[chosen]} looks at place ${token}, ${panel.tokens[token]}, with ${share} of its attention`;
    }
    if (token >= 0) return `place ${token}: ${panel.tokens[token]}`;
    return over < 0 ? null : `${this.named(over)} with probability ${exact(find.probability(frame, over))}`;
  }
}
