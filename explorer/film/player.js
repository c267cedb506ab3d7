// Draws a Film (see film.py) and lets people move through it. One file, no dependencies: the same code runs as a
// Streamlit component and inside a page of its own.
//
// Every panel has a `base`, drawn when its size, theme or options change, and a `live` part, drawn for each frame.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  play: "M3 1.5v13l11-6.5z",
  pause: "M3 2h4v12H3zM9 2h4v12H9z",
  back: "M10.5 1.5 12 3 7 8l5 5-1.5 1.5L4 8z",
  full: "M1 1h5v2H3v3H1zM10 1h5v5h-2V3h-3zM1 10h2v3h3v2H1zM13 10h2v5h-5v-2h3z",
  forward: "M5.5 1.5 4 3l5 5-5 5 1.5 1.5L12 8z",
};
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const SECONDS = 12; // a whole film at speed 1
const REPORT_DELAY = 150; // ms after the last key before the position is reported

// What outlives a player, which goes with its page: the step it stood at and the one it last reported, speed, the
// panels' switches. `move` counts how often the position was set from outside; while it is the same, the step here is
// the newest there is.
const memory = (window.phaseChangeExplorer ??= { move: null, step: null, reported: null, speed: 1, options: {} });

// After Okabe and Ito, with the lightness fitted to each background and its pink, which is the cursor's, left out.
const PALETTE = {
  light: ["#0064a8", "#d55e00", "#009e73", "#7b4fa3", "#b8860b", "#56b4e9", "#8c6d46"],
  dark: ["#4a9ae0", "#f0803c", "#2fc79a", "#b79cdb", "#f0c040", "#bfe3fa", "#c9a98a"],
};
const MARKS = { light: ["#00795a", "#c04f00"], dark: ["#2fc79a", "#f0803c"] }; // right, wrong
const RAMPS = {
  // from the page's own colour, at zero, upwards
  light: {
    sequential: ["#9ecae8", "#2f7fc1", "#08306b"],
    positive: ["#9ecae8", "#2f7fc1", "#0d4f9e"],
    negative: ["#f0a46c", "#cc5500", "#8f3600"],
  },
  dark: {
    sequential: ["#1d5c96", "#4fa8e0", "#eaf6ff"],
    positive: ["#1d5c96", "#4fa8e0", "#cfe9ff"],
    negative: ["#9c4a12", "#ef9450", "#ffdfc4"],
  },
};

// --- Small tools ---

const element = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};

const icon = (name) => {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
};

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const thousands = new Intl.NumberFormat("en-US");
const count = (n) => thousands.format(n);
const brief = (x) => {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  return size !== 0 && size < 0.001 ? x.toExponential(1) : size < 100 ? x.toFixed(3) : x.toPrecision(4);
};
const exact = (x) => (Number.isFinite(x) ? String(Number(x.toPrecision(7))) : "no value");

const decode = (message) => {
  const bytes = message.slice(); // own memory, aligned
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const film = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const arrays = { f4: Float32Array, u2: Uint16Array };
  const walk = (thing) => {
    if (Array.isArray(thing)) return thing.map(walk);
    if (thing === null || typeof thing !== "object") return thing;
    if ("dtype" in thing) {
      const array = new arrays[thing.dtype](bytes.buffer, 4 + length + thing.at, thing.shape.reduce((a, b) => a * b, 1));
      array.shape = thing.shape;
      return array;
    }
    return Object.fromEntries(Object.entries(thing).map(([name, value]) => [name, walk(value)]));
  };
  return walk(film);
};

// The place of the last entry of an ascending array that is not above x.
const before = (array, x) => {
  let low = 0;
  let high = array.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (array[middle] <= x) low = middle;
    else high = middle - 1;
  }
  return low;
};

const nearest = (array, x) => {
  const i = before(array, x);
  return i + 1 < array.length && array[i + 1] - x < x - array[i] ? i + 1 : i;
};

// --- Colour ---

const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const gamma = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);
const toLab = ([red, green, blue]) => {
  const [r, g, b] = [red, green, blue].map((c) => linear(c / 255));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
};
const fromLab = ([L, a, b]) => {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((c) => Math.round(255 * clamp(gamma(clamp(c, 0, 1)), 0, 1)));
};
const rgb = (css) => {
  const context = element("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = css;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};

// 256 colours whose lightness changes evenly (OKLab) from stop to stop, packed for an ImageData.
const ramp = (stops) => {
  const labs = stops.map((stop) => toLab(rgb(stop)));
  const even = labs.map((lab, i) => [labs[0][0] + ((labs.at(-1)[0] - labs[0][0]) * i) / (labs.length - 1), lab[1], lab[2]]);
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (even.length - 1);
    const k = Math.min(Math.floor(at), even.length - 2);
    const [r, g, b] = fromLab(even[k].map((value, axis) => value + (even[k + 1][axis] - value) * (at - k)));
    return (255 << 24) | (b << 16) | (g << 8) | r;
  });
};

// Colours of the theme that is on now.
const readTheme = (root) => {
  const style = getComputedStyle(root);
  const probe = element("i");
  root.append(probe);
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const theme = { ink: colour("--ink"), paper: colour("--paper"), line: colour("--line"), soft: colour("--soft"), cursor: colour("--cursor"), wash: colour("--wash") };
  probe.remove();
  theme.font = style.fontFamily;
  theme.mode = toLab(rgb(theme.paper))[0] > 0.5 ? "light" : "dark";
  theme.palette = PALETTE[theme.mode];
  [theme.right, theme.wrong] = MARKS[theme.mode];
  const [all, up, down] = ["sequential", "positive", "negative"].map((name) => ramp([theme.paper, ...RAMPS[theme.mode][name]]));
  theme.ramps = {
    sequential: all,
    diverging: Uint32Array.from({ length: 256 }, (_, i) => (i < 128 ? down[255 - 2 * i] : up[2 * i - 255])),
  };
  return theme;
};

// --- Panels ---

class Panel {
  constructor(panel, player) {
    Object.assign(this, { panel, player });
    this.heading = element("h3", {}, panel.title);
    this.tools = element("div", { class: "push" });
    this.root = element("section", { class: `panel ${panel.kind}`, "aria-label": panel.title }, element("header", {}, this.heading, this.tools));
    this.root.style.setProperty("--span", panel.span);
  }

  get theme() {
    return this.player.theme;
  }

  // What people have set on the panel of this id, on any page.
  get options() {
    return (memory.options[this.panel.id] ??= {});
  }

  // A switch in the panel's header.
  toggle(name, initial) {
    const { options } = this;
    options[name] ??= initial;
    const button = element("button", { class: "switch", type: "button", "aria-pressed": options[name] }, name);
    button.onclick = () => {
      options[name] = !options[name];
      button.setAttribute("aria-pressed", options[name]);
      this.layout();
      this.player.redraw();
    };
    this.tools.append(button);
    return () => options[name];
  }

  layout() {}
  live() {}
  escape() {}
}

// A panel drawn on two canvases, with a tooltip.
class CanvasPanel extends Panel {
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

  // Fit the canvases to the panel's width and the given height; returns false while the panel is not on screen.
  fit(height) {
    this.width = this.root.clientWidth;
    this.height = height;
    if (!this.width) return false;
    this.stage.style.height = `${height}px`;
    const ratio = (window.devicePixelRatio || 1) * this.player.zoom;
    [this.base, this.top] = this.canvases.map((canvas) => {
      canvas.width = Math.round(this.width * ratio);
      canvas.height = Math.round(height * ratio);
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      return context;
    });
    return true;
  }

  write(context, text, x, y, { size = 13, colour = this.theme.soft, align = "left", baseline = "middle", weight = 400 } = {}) {
    context.font = `${weight} ${size}px ${this.theme.font}`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.textBaseline = baseline;
    context.fillText(text, x, y);
  }

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

  // Where an event is on the canvas, in the canvas's own pixels whatever the zoom.
  local(event) {
    const { left, top, width } = this.stage.getBoundingClientRect();
    const scale = this.width / width;
    return [(event.clientX - left) * scale, (event.clientY - top) * scale];
  }

  hover(event) {
    this.pointer = this.local(event);
    this.retip();
  }

  // What lies under the pointer, again after each frame.
  retip() {
    const text = this.pointer && this.under(...this.pointer);
    if (text) this.showTip(text, ...this.pointer);
    else this.tip.style.visibility = "hidden";
  }

  under() {
    return null;
  }
}

// A panel whose horizontal axis are the steps, to drag on.
class Timeline extends CanvasPanel {
  moves = true; // between snapshots too, while playing
  room = 48; // left of the axis

  constructor(panel, player) {
    super(panel, player);
    this.stage.classList.add("timeline");
    const drag = (event) => this.player.seek(nearest(this.steps, this.stepAt(this.local(event)[0])));
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.stage.setPointerCapture(event.pointerId);
      this.dragging = true;
      this.player.pause();
      drag(event);
    });
    this.stage.addEventListener("pointermove", (event) => this.dragging && drag(event));
    for (const end of ["pointerup", "pointercancel"]) {
      this.stage.addEventListener(end, () => {
        if (this.dragging) this.player.report();
        this.dragging = false;
        this.player.catchUp();
      });
    }
  }

  // Where the panel stands in each frame: at the film's step, or at one of its own where it shows another run.
  get steps() {
    return this.panel.at ?? this.player.film.steps;
  }

  get here() {
    return this.steps[this.player.index];
  }

  // Timelines of one width begin at the same place, so that a step is above itself in all of them.
  get left() {
    const same = this.player.panels.filter((other) => other instanceof Timeline && other.panel.span === this.panel.span);
    return Math.max(...same.map((other) => other.room));
  }

  // The horizontal scale, over the steps of all snapshots and of everything measured.
  scaleSteps(measured) {
    const { box, steps } = this;
    // While a run is being trained, its curves are ahead of its snapshots; one that is beside another may begin late.
    const ends = [...steps, ...measured.flatMap((at) => (at.length ? [at[0], at.at(-1)] : []))];
    const first = Math.min(...ends);
    const last = Math.max(first + 1, ...ends);
    this.x = (step) => box.left + ((step - first) / (last - first)) * (box.right - box.left);
    this.stepAt = (x) => first + ((x - box.left) / (box.right - box.left)) * (last - first);
  }

  stepAxis(context) {
    const { box, theme } = this;
    const [first, last] = [this.stepAt(box.left), this.stepAt(box.right)];
    for (const step of ticks(first, last, this.width < 560 ? 4 : 8)) {
      this.write(context, count(step), this.x(step), box.bottom + 18, { align: "center" });
    }
    this.write(context, "step", box.right, box.bottom + 32, { align: "right" });
    // Where the snapshots are.
    context.fillStyle = theme.soft;
    for (const step of this.steps) context.fillRect(this.x(step) - 0.5, box.bottom + 2, 1, 5);
  }

  // The cursor; returns its place.
  cursor(context) {
    const { box, steps, theme } = this;
    const { position } = this.player;
    const whole = Math.floor(position);
    const between = steps[whole] + (position - whole) * ((steps[whole + 1] ?? steps[whole]) - steps[whole]);
    const x = this.x(between);
    context.strokeStyle = theme.cursor;
    context.fillStyle = theme.cursor;
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(x, box.top);
    context.lineTo(x, box.bottom + 6);
    context.stroke();
    context.beginPath();
    context.arc(x, box.bottom + 6, 6, 0, 7);
    context.fill();
    return x;
  }
}

class Curves extends Timeline {
  constructor(panel, player) {
    super(panel, player);
    // What may be negative has no logarithm.
    const positive = panel.lines.every((line) => line.values.every((value) => !(value < 0)));
    this.log = positive ? this.toggle("log", panel.log) : () => false;
    this.smooth = panel.smoothing ? this.toggle("smooth", true) : () => false;
    this.hidden = this.options.hidden ??= new Set();
    this.keys = element("div", { class: "keys" });
    this.stage.before(this.keys);
    this.groups = new Map(); // name -> its lines and its key
    for (const line of panel.lines) {
      line.group ||= line.label;
      if (!this.groups.has(line.group)) this.groups.set(line.group, { lines: [], ...this.key(line.group) });
      this.groups.get(line.group).lines.push(line);
    }
  }

  // The entry of a group of curves in the legend; a click hides them.
  key(name) {
    const value = element("b", {}, "–");
    const key = element("button", { class: "key", type: "button", "aria-pressed": !this.hidden.has(name) }, element("i"), name, value);
    key.onpointerenter = key.onfocus = () => (key.title = this.described(name));
    key.onclick = () => {
      const hide = !this.hidden.has(name);
      this.hidden[hide ? "add" : "delete"](name);
      key.setAttribute("aria-pressed", !hide);
      this.layout();
      this.player.redraw();
    };
    this.keys.append(key);
    return { key, value };
  }

  // A group's value at a step: the mean over its curves, of those that have one there.
  meanAt(lines, step, values) {
    const there = lines.map((line) => values(line)[before(line.steps, step)]).filter(Number.isFinite);
    return there.length ? there.reduce((a, b) => a + b, 0) / there.length : NaN;
  }

  // A group's value at the cursor, in full.
  described(name) {
    const { lines } = this.groups.get(name);
    const { steps } = lines[0];
    if (!steps.length) return `${name}: nothing measured yet`;
    const step = steps[before(steps, this.here)];
    const shown = exact(this.meanAt(lines, step, (line) => line.shown));
    const measured = this.smooth() ? `, smoothed; as measured ${exact(this.meanAt(lines, step, (line) => line.values))}` : "";
    const mean = lines.length > 1 ? `, mean of ${lines.length} curves` : "";
    return `${name}${mean} at step ${count(step)}: ${shown} ${this.panel.unit}${measured}`;
  }

  colour(line) {
    return line.strong ? this.theme.ink : this.theme.palette[line.colour % this.theme.palette.length];
  }

  dash(line) {
    const again = Math.floor(line.colour / this.theme.palette.length) % 3;
    return (line.dashed ? [[6, 4], [8, 2, 2, 2], [2, 2, 6, 2]] : [[], [2, 3], [12, 3]])[again];
  }

  layout() {
    const { panel, theme } = this;
    if (!this.fit(this.root.clientWidth < 480 ? 240 : panel.height)) return;
    this.box = { left: this.left, top: 8, right: this.width - 16, bottom: this.height - 40 };
    for (const line of panel.lines) line.shown = this.smooth() ? smoothed(line, panel.smoothing, this.log()) : line.values;
    this.scales();
    const { base: context, box } = this;
    context.clearRect(0, 0, this.width, this.height);
    this.axes(context);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top - 4, box.right - box.left, box.bottom - box.top + 8);
    context.clip();
    for (const [name, { lines, key }] of this.groups) {
      const dash = this.dash(lines[0]);
      const pattern = !dash.length ? "solid" : dash[0] > 2 ? "dashed" : "dotted";
      key.firstChild.style.borderTop = `3px ${pattern} ${this.colour(lines[0])}`;
      if (this.hidden.has(name)) continue;
      const many = lines.length > 1;
      for (const line of lines) {
        if (this.smooth() && !many) this.trace(context, line, line.values, 0.14, 1);
        this.trace(context, line, line.shown, many ? 0.5 : 1, line.strong ? 2.5 : many ? 1 : 2);
      }
    }
    context.restore();
    for (const mark of this.marks) this.mark(context, mark);
  }

  // The flags of the groups that are shown.
  get marks() {
    return this.panel.marks.filter(({ group }) => !this.hidden.has(group));
  }

  // A small flag at the top, with a line down through the curves.
  mark(context, { step, colour }) {
    const { box } = this;
    const x = this.x(step);
    context.strokeStyle = context.fillStyle = this.theme.palette[colour % this.theme.palette.length];
    context.lineWidth = 1;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(x, box.top);
    context.lineTo(x, box.bottom);
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    context.moveTo(x - 5, box.top - 6);
    context.lineTo(x + 5, box.top - 6);
    context.lineTo(x, box.top + 3);
    context.fill();
  }

  scales() {
    const { panel, box } = this;
    let low = Infinity;
    let high = -Infinity;
    for (const line of panel.lines) {
      if (this.hidden.has(line.group)) continue;
      for (const value of line.shown) {
        if (!Number.isFinite(value) || (this.log() && value <= 0)) continue;
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    if (!(low <= high)) [low, high] = [0, 1];
    for (const [, value] of panel.references) if (value > 0) high = Math.max(high, value);
    this.low = this.log() ? Math.max(low, high * 1e-10) : Math.min(0, low * 1.05);
    this.high = this.log() ? high * 1.3 : Math.max(0, high * 1.05);
    const scale = this.log() ? Math.log10 : (value) => value;
    const [bottom, top] = [scale(this.low), scale(this.high)];
    this.y = (value) => box.bottom - ((scale(value) - bottom) / (top - bottom || 1)) * (box.bottom - box.top);
    this.scaleSteps(panel.lines.map((line) => line.steps));
  }

  axes(context) {
    const { box, theme, panel } = this;
    context.lineWidth = 1;
    for (const value of this.log() ? decades(this.low, this.high) : ticks(this.low, this.high, 5)) {
      const y = this.rule(context, value, theme.line);
      this.write(context, tick(value), box.left - 8, y, { align: "right" });
    }
    this.stepAxis(context);
    this.write(context, panel.unit, 0, box.bottom + 32, {});
    context.setLineDash([2, 4]);
    for (const [label, value] of panel.references) {
      if (this.log() && value <= this.low) continue;
      const y = this.rule(context, value, theme.soft);
      this.write(context, `${label} ${brief(value)}`, box.right - 4, y - 8, { align: "right" });
    }
    context.setLineDash([]);
  }

  // A horizontal line at a value; returns its y.
  rule(context, value, colour) {
    const y = Math.round(this.y(value)) + 0.5;
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(this.box.left, y);
    context.lineTo(this.box.right, y);
    context.stroke();
    return y;
  }

  trace(context, line, values, alpha, width) {
    context.globalAlpha = alpha;
    context.strokeStyle = this.colour(line);
    context.lineWidth = width;
    context.lineJoin = "round";
    context.setLineDash(alpha < 1 ? [] : this.dash(line));
    context.beginPath();
    let pen = false;
    for (let i = 0; i < values.length; i += 1) {
      const drawable = Number.isFinite(values[i]) && !(this.log() && values[i] <= 0);
      if (drawable) context[pen ? "lineTo" : "moveTo"](this.x(line.steps[i]), this.y(values[i]));
      pen = drawable;
    }
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  // The curve nearest to the pointer, and its value there.
  under(x, y) {
    if (!this.box || this.dragging) return null;
    const off = ({ step }) => Math.abs(this.x(step) - x);
    const flag = this.marks.toSorted((one, other) => off(one) - off(other))[0];
    if (flag && y < this.box.top + 8 && off(flag) < 7) return `${flag.label} at step ${count(flag.step)}`;
    let found = null;
    for (const line of this.panel.lines) {
      if (this.hidden.has(line.group)) continue;
      const at = nearest(line.steps, this.stepAt(x));
      const off = Math.abs(this.y(line.shown[at]) - y);
      if (off < (found?.off ?? 24)) found = { off, text: `${line.label} at step ${count(line.steps[at])}: ${exact(line.shown[at])} ${this.panel.unit}` };
    }
    return found?.text;
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, here: step } = this;
    context.clearRect(0, 0, this.width, this.height);
    const x = this.cursor(context);
    for (const [name, { lines, value: shown }] of this.groups) {
      const value = this.meanAt(lines, step, (line) => line.shown);
      const text = brief(value);
      if (shown.textContent !== text) shown.textContent = text;
      if (this.hidden.has(name) || !Number.isFinite(value) || (this.log() && value <= 0)) continue;
      context.fillStyle = this.colour(lines[0]);
      context.beginPath();
      context.arc(x, this.y(value), 4, 0, 7);
      context.fill();
    }
  }
}

// An exponential average forwards and again backwards, so that it lags behind neither way; of logarithms where the
// scale has them, or a single high value would draw a slope of many steps.
const smoothed = ({ steps, values }, smoothing, log) => {
  const spacing = (steps.at(-1) - steps[0]) / (steps.length - 1) || 1; // curves may be thinned, or measured now and then
  const beta = smoothing ** spacing;
  const out = log ? Float32Array.from(values, (value) => Math.log(value)) : Float32Array.from(values);
  const follow = (from, to, by) => {
    let mean = NaN;
    for (let i = from; i !== to; i += by) {
      if (Number.isFinite(out[i])) mean = Number.isFinite(mean) ? beta * mean + (1 - beta) * out[i] : out[i];
      out[i] = mean;
    }
  };
  follow(0, out.length, 1);
  follow(out.length - 1, -1, -1);
  return log ? out.map((value, i) => (values[i] > 0 ? Math.exp(value) : NaN)) : out;
};

const ticks = (low, high, wanted) => {
  const raw = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const out = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k += 1) out.push(k * step);
  return out;
};

const decades = (low, high) => {
  const [first, last] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high))];
  const every = Math.max(1, Math.ceil((last - first) / 6));
  const out = [];
  for (let k = first; k <= last; k += every) out.push(10 ** k);
  return out;
};

class Raster extends Timeline {
  constructor(panel, player) {
    super(panel, player);
    this.tools.append(...rampBetween(panel));
    this.room = clamp(8 * longest(panel.rows) + 12, 48, 160);
  }

  layout() {
    const { panel, theme } = this;
    const n = panel.rows.length;
    const pitch = clamp(Math.round(240 / n), 10, 24);
    if (!this.fit(8 + pitch * n + 40)) return;
    this.box = { left: this.left, top: 8, right: this.width - 16, bottom: 8 + pitch * n };
    const { base: context, box } = this;
    this.scaleSteps([panel.steps]);
    context.clearRect(0, 0, this.width, this.height);
    context.fillStyle = theme.wash; // shows where there is no value
    context.fillRect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    const every = Math.ceil(12 / pitch);
    panel.rows.forEach((label, r) => {
      if (r % every === 0) this.write(context, label, box.left - 8, box.top + (r + 0.5) * pitch, { align: "right", size: clamp(pitch, 11, 13) });
    });
    // A column of the picture for each pixel, with the value measured last before it.
    const width = Math.max(1, Math.round(box.right - box.left));
    const picture = element("canvas", { width, height: n });
    const image = picture.getContext("2d").createImageData(width, n);
    const packed = new Uint32Array(image.data.buffer);
    const colours = theme.ramps[panel.scale];
    for (let px = 0; px < width; px += 1) {
      const at = before(panel.steps, this.stepAt(box.left + px + 0.5));
      for (let r = 0; r < n; r += 1) {
        const value = panel.values[r * panel.steps.length + at];
        const level = clamp((value - panel.low) / (panel.high - panel.low || 1), 0, 1);
        packed[r * width + px] = Number.isFinite(value) ? colours[Math.round(255 * level)] : 0;
      }
    }
    picture.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, box.left, box.top, width, box.bottom - box.top);
    context.strokeStyle = theme.line;
    context.lineWidth = 1;
    context.strokeRect(box.left - 0.5, box.top - 0.5, width + 1, box.bottom - box.top + 1);
    panel.onsets?.forEach((step, r) => {
      if (!Number.isFinite(step)) return;
      context.fillStyle = theme.paper;
      context.fillRect(this.x(step) - 2.5, box.top + r * pitch, 5, pitch);
      context.fillStyle = theme.ink;
      context.fillRect(this.x(step) - 1, box.top + r * pitch, 2, pitch);
    });
    this.stepAxis(context);
    paintRamp(this);
  }

  live() {
    if (!this.top || !this.box) return;
    this.top.clearRect(0, 0, this.width, this.height);
    this.cursor(this.top);
  }

  under(x, y) {
    const { box, panel } = this;
    if (!box || this.dragging || x < box.left || x > box.right || y < box.top || y >= box.bottom) return null;
    const row = Math.floor(((y - box.top) / (box.bottom - box.top)) * panel.rows.length);
    const at = before(panel.steps, this.stepAt(x));
    const onset = panel.onsets?.[row];
    const marked = Number.isFinite(onset) ? `; onset at step ${count(onset)}` : "";
    return `${panel.rows[row]} at step ${count(panel.steps[at])}: ${exact(panel.values[row * panel.steps.length + at])} ${panel.unit}${marked}`;
  }
}

const longest = (labels) => Math.max(0, ...labels.map((label) => label.length));

// The key to a panel's colours: its lowest value, the ramp, its highest.
const rampBetween = ({ low, high, most, scale }) => {
  const bar = element("canvas", { class: "ramp", width: 96, height: 1, "aria-hidden": "true" });
  if (!most) return [brief(low), bar, brief(high)];
  return [scale === "diverging" ? `≤ ${brief(-most)}` : brief(low), bar, `≥ ${brief(most)}`];
};

const paintRamp = ({ tools, panel, theme }) => {
  const strip = tools.querySelector(".ramp").getContext("2d");
  const image = strip.createImageData(96, 1);
  const colours = new Uint32Array(image.data.buffer);
  for (let i = 0; i < 96; i += 1) colours[i] = theme.ramps[panel.scale][Math.round((i * 255) / 95)];
  strip.putImageData(image, 0, 0);
};

class Heatmaps extends CanvasPanel {
  constructor(panel, player) {
    super(panel, player);
    // Colours mean the same in every snapshot, unless somebody wants to see what little there is in this one.
    this.own = this.toggle("rescale", false);
    this.tools.append(...rampBetween(panel));
    const [, , rows, columns] = panel.values.shape;
    this.cells = element("canvas", { width: columns, height: rows });
    this.pixels = this.cells.getContext("2d").createImageData(columns, rows);
    this.packed = new Uint32Array(this.pixels.data.buffer);
    // As many decimals as the 16 bits of a value can tell.
    this.decimals = clamp(Math.ceil(-Math.log10((panel.high - panel.low || 1) / 65534)), 0, 20);
    const [left, top] = this.margins();
    this.margin = { left, top };
    this.stage.addEventListener("click", (event) => {
      const map = this.at(...this.local(event))?.map;
      if (panel.maps.length > 1 && map !== undefined) this.enlarge(this.options.enlarged ? null : panel.maps[map]);
    });
  }

  // The size of the largest value that is on screen.
  largest() {
    const { panel } = this;
    const [, maps, rows, columns] = panel.values.shape;
    let [least, most] = [65535, 0];
    for (const { map } of this.boxes) {
      const first = (this.player.index * maps + map) * rows * columns;
      for (let i = first; i < first + rows * columns; i += 1) {
        const level = panel.values[i];
        if (!level) continue;
        if (level < least) least = level;
        if (level > most) most = level;
      }
    }
    const value = (level) => panel.low + ((level - 1) / 65534) * (panel.high - panel.low);
    return most && Math.max(Math.abs(value(least)), Math.abs(value(most)));
  }

  enlarge(name) {
    this.options.enlarged = name;
    this.hideTip();
    this.layout();
    this.player.redraw();
    if (name) this.root.scrollIntoView({ block: "nearest" });
  }

  escape() {
    if (this.options.enlarged) this.enlarge(null);
  }

  // Room for the row labels, and above for the column labels, which are turned where they are long.
  margins() {
    const [rows, columns] = [longest(this.panel.rows), longest(this.panel.columns)];
    return [clamp(9 * rows + 8, 20, 96), columns > 2 ? clamp(8 * columns + 8, 18, 104) : 18];
  }

  layout() {
    const { panel, theme, margin } = this;
    const [, , rows, columns] = panel.values.shape;
    const all = panel.maps.map((_, i) => i);
    const zoomed = panel.maps.length > 1 ? panel.maps.indexOf(this.options.enlarged) : -1;
    const shown = zoomed >= 0 ? [zoomed] : all;
    this.stage.classList.toggle("zoomable", all.length > 1 && zoomed < 0);
    this.stage.classList.toggle("zoomed", zoomed >= 0);
    const width = this.root.clientWidth - 1; // the last frame's own line
    if (width <= 0) return;
    const gap = 24;
    const head = (panel.maps.some(Boolean) ? 24 : 0) + margin.top;
    const square = (columns <= 96 && rows <= 96) || rows === columns;
    // As many maps beside each other as leave readable cells.
    let across = shown.length;
    const cellWidth = () => ((width - gap * (across - 1)) / across - margin.left) / columns;
    while (across > 1 && cellWidth() * columns < 120) across = Math.ceil(across / 2);
    const w = square ? Math.min(cellWidth(), clamp((all.length === 1 ? 480 : shown.length === 1 ? 640 : 160) / Math.max(rows, columns), shown.length === 1 ? 4 : 24, 56)) : cellWidth();
    const h = square ? w : clamp(360 / rows, 6, 24);
    const size = { w: w * columns, h: h * rows };
    const lines = Math.ceil(shown.length / across);
    if (!this.fit(Math.ceil(lines * (head + size.h) + (lines - 1) * gap + 16))) return;
    const pitch = square && across > 1 ? Math.min((width + gap) / across, size.w + margin.left + gap * 2) : margin.left + size.w + gap;
    this.boxes = shown.map((map, i) => ({
      map,
      x: margin.left + (i % across) * pitch,
      y: head + Math.floor(i / across) * (head + size.h + gap),
      w: size.w,
      h: size.h,
    }));
    const { base: context } = this;
    context.clearRect(0, 0, this.width, this.height);
    for (const box of this.boxes) {
      this.write(context, panel.maps[box.map], box.x, box.y - margin.top - 12, { weight: 600, colour: theme.ink, size: 13 });
      context.fillStyle = theme.wash; // shows where a cell has no value
      context.fillRect(box.x, box.y, box.w, box.h);
      context.strokeStyle = theme.line;
      context.strokeRect(box.x - 0.5, box.y - 0.5, box.w + 1, box.h + 1);
      const everyRow = Math.max(1, Math.ceil(9 / h));
      panel.rows.forEach((label, r) => {
        if (r % everyRow === 0) this.write(context, label, box.x - 6, box.y + (r + 0.5) * h, { align: "right", size: clamp(h, 11, 15) });
      });
      const turned = margin.top > 18;
      const everyColumn = Math.max(1, Math.ceil((turned ? 12 : Math.max(...panel.columns.map((c) => c.length)) * 8) / w));
      panel.columns.forEach((label, c) => {
        if (c % everyColumn) return;
        const [x, y] = [box.x + (c + 0.5) * w, box.y - 6];
        const size = clamp(w, 11, 15);
        if (!turned) return void this.write(context, label, x, y - 4, { align: "center", size });
        context.save();
        context.translate(x, y);
        context.rotate(-Math.PI / 2);
        this.write(context, label, 0, 0, { size: 11 });
        context.restore();
      });
    }
    const first = this.boxes[0];
    this.write(context, `${panel.row_axis} ↓   ${panel.column_axis} →`, first.x, this.height - 6, {});
    paintRamp(this);
  }

  live() {
    if (!this.top || !this.boxes) return;
    const { top: context, panel, packed } = this;
    const [, maps, rows, columns] = panel.values.shape;
    const colours = this.theme.ramps[panel.scale];
    // From a level to a colour: the ramp ends where the panel says, which may be before its values do.
    const most = (this.own() && this.largest()) || panel.most || panel.high;
    const [low, high] = panel.scale === "diverging" ? [-most, most] : [panel.low, most];
    const slope = ((panel.high - panel.low) / 65534 / (high - low || 1)) * 255;
    const start = ((panel.low - low) / (high - low || 1)) * 255 - slope;
    context.clearRect(0, 0, this.width, this.height);
    context.imageSmoothingEnabled = false;
    for (const box of this.boxes) {
      const offset = (this.player.index * maps + box.map) * rows * columns;
      for (let i = 0; i < packed.length; i += 1) {
        const level = panel.values[offset + i];
        packed[i] = level ? colours[clamp((start + slope * level + 0.5) | 0, 0, 255)] : 0;
      }
      this.cells.getContext("2d").putImageData(this.pixels, 0, 0);
      context.drawImage(this.cells, box.x, box.y, box.w, box.h);
      context.strokeStyle = this.theme.palette[1];
      context.lineWidth = 1.5;
      for (const [row, column, height, width] of panel.outlines) {
        context.strokeRect(box.x + (column * box.w) / columns, box.y + (row * box.h) / rows, (width * box.w) / columns, (height * box.h) / rows);
      }
    }
    if (this.pointer) this.retip();
  }

  at(x, y) {
    const [, maps, rows, columns] = this.panel.values.shape;
    for (const box of this.boxes ?? []) {
      const column = Math.floor(((x - box.x) / box.w) * columns);
      const row = Math.floor(((y - box.y) / box.h) * rows);
      if (column < 0 || row < 0 || column >= columns || row >= rows) continue;
      const level = this.panel.values[((this.player.index * maps + box.map) * rows + row) * columns + column];
      const value = level ? this.panel.low + ((level - 1) / 65534) * (this.panel.high - this.panel.low) : NaN;
      return { map: box.map, row, column, value };
    }
    return null;
  }

  under(x, y) {
    const hit = this.at(x, y);
    if (!hit) return null;
    const { panel } = this;
    const place = `${panel.row_axis} ${panel.rows[hit.row]} (${hit.row}), ${panel.column_axis} ${panel.columns[hit.column]} (${hit.column})`;
    return `${panel.maps[hit.map]}  ${place}`.trim() + `: ${Number.isFinite(hit.value) ? hit.value.toFixed(this.decimals) : "masked"}`;
  }
}

class Bars extends CanvasPanel {
  layout() {
    const { panel, theme } = this;
    const [, groups, categories] = panel.values.shape;
    const own = Array.isArray(panel.categories[0]); // each group its own categories, so labels beside each group
    const gutter = 14 + 9 * Math.max(...panel.categories.flat().map((label) => label.length));
    this.box = { left: gutter, top: 56, rowHeight: clamp(240 / categories, 12, 24) };
    if (!this.fit(this.box.top + this.box.rowHeight * categories + 8)) return;
    const { base: context, box } = this;
    box.pitch = Math.min((this.width - (own ? 0 : gutter)) / groups, own ? 240 : 160);
    box.cell = box.pitch - 12 - (own ? gutter : 0);
    context.clearRect(0, 0, this.width, this.height);
    this.labels = own ? panel.categories : panel.groups.map(() => panel.categories);
    (own ? panel.categories : [panel.categories]).forEach((labels, g) =>
      labels.forEach((label, c) => this.write(context, label, box.left + g * box.pitch - 8, this.rowAt(c), { align: "right", size: 13 })),
    );
    const narrow = box.cell < 88;
    panel.groups.forEach((label, g) => {
      const x = box.left + g * box.pitch;
      this.write(context, fitting(label, box.pitch), x, 10, { size: narrow ? 12 : 13 });
      context.fillStyle = theme.wash;
      for (let c = 0; c < categories; c += 1) context.fillRect(x, box.top + c * box.rowHeight + 1, box.cell, box.rowHeight - 2);
      context.strokeStyle = theme.ink;
      context.lineWidth = 1.5;
      context.strokeRect(x - 1, box.top + panel.targets[g] * box.rowHeight, box.cell + 2, box.rowHeight);
    });
  }

  rowAt(category) {
    return this.box.top + (category + 0.5) * this.box.rowHeight;
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, panel, theme, box } = this;
    const [, groups, categories] = panel.values.shape;
    context.clearRect(0, 0, this.width, this.height);
    for (let g = 0; g < groups; g += 1) {
      const offset = (this.player.index * groups + g) * categories;
      const x = box.left + g * box.pitch;
      let best = 0;
      for (let c = 1; c < categories; c += 1) if (panel.values[offset + c] > panel.values[offset + best]) best = c;
      // Where not every category is shown, the film says which is the most probable.
      if (panel.said.length) best = this.labels[g].indexOf(panel.said[this.player.index][g]);
      const said = best < 0 ? panel.said[this.player.index][g] : this.labels[g][best];
      const right = best === panel.targets[g];
      for (let c = 0; c < categories; c += 1) {
        context.fillStyle = c === best ? (right ? theme.right : theme.wrong) : theme.soft;
        const length = box.cell * panel.values[offset + c];
        if (length >= 0.5) context.fillRect(x, box.top + c * box.rowHeight + 1, length, box.rowHeight - 2);
      }
      const colour = right ? theme.right : theme.wrong;
      this.write(context, `${said} ${right ? "✓" : "✗"}`, x, 36, { size: 22, weight: 600, colour });
      const wide = box.cell > 96;
      if (wide && best >= 0) this.write(context, `${(100 * panel.values[offset + best]).toFixed(0)} %`, x + box.cell, 37, { size: 13, align: "right" });
    }
    if (this.pointer) this.retip();
  }

  under(x, y) {
    if (!this.box?.pitch) return null;
    const [, groups, categories] = this.panel.values.shape;
    const group = Math.floor((x - this.box.left) / this.box.pitch);
    const category = Math.floor((y - this.box.top) / this.box.rowHeight);
    if (group < 0 || category < 0 || group >= groups || category >= categories) return null;
    const value = this.panel.values[(this.player.index * groups + group) * categories + category];
    return `${this.panel.groups[group]}: ${this.labels[group][category]} with probability ${exact(100 * value)} %`;
  }
}

// Columns up and down from zero.
class Columns extends CanvasPanel {
  constructor(panel, player) {
    super(panel, player);
    const several = panel.series.length > 1;
    this.keys = panel.series.map((name) => element("span", { class: "key" }, element("i"), name));
    if (several) this.stage.before(element("div", { class: "keys" }, ...this.keys));
    const finite = panel.values.filter(Number.isFinite);
    const [low, high] = finite.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [0, 0]);
    const edge = (high - low) * 0.05 || 1;
    [this.low, this.high] = [low < 0 ? low - edge : 0, high > 0 || !low ? high + edge : 0];
  }

  layout() {
    const { panel, theme } = this;
    const n = panel.categories.length;
    const label = longest(panel.categories);
    const pitch = (this.root.clientWidth - 64) / n;
    const turned = pitch < 8 * label + 4 && label > 2;
    const foot = turned ? clamp(7 * label + 12, 24, 120) : 24;
    if (!this.fit(panel.height)) return;
    this.box = { left: 48, top: 8, right: this.width - 16, bottom: this.height - foot - 18, pitch: Math.min((this.width - 64) / n, 96) };
    const { base: context, box } = this;
    this.y = (value) => box.bottom - ((value - this.low) / (this.high - this.low)) * (box.bottom - box.top);
    context.clearRect(0, 0, this.width, this.height);
    context.lineWidth = 1;
    for (const value of ticks(this.low, this.high, 5)) {
      const y = Math.round(this.y(value)) + 0.5;
      context.strokeStyle = value === 0 ? theme.soft : theme.line;
      context.beginPath();
      context.moveTo(box.left, y);
      context.lineTo(box.left + n * box.pitch, y);
      context.stroke();
      this.write(context, tick(value), box.left - 8, y, { align: "right" });
    }
    const every = Math.ceil((turned ? 13 : 8 * label + 6) / box.pitch);
    panel.categories.forEach((name, c) => {
      const marked = panel.marked.includes(c);
      if (!marked && (c % every || panel.marked.some((other) => Math.abs(other - c) < every))) return;
      const style = marked ? { weight: 700, colour: theme.ink } : {};
      const x = box.left + (c + 0.5) * box.pitch;
      if (!turned) return void this.write(context, name, x, box.bottom + 14, { align: "center", ...style });
      context.save();
      context.translate(x, box.bottom + 8);
      context.rotate(-Math.PI / 2);
      this.write(context, fitting(name, 108), 0, 0, { align: "right", size: 12, ...style });
      context.restore();
    });
    this.write(context, `${panel.unit} ↑   ${panel.category_axis} →`, box.left, this.height - 6, {});
    this.keys.forEach((key, i) => (key.firstChild.style.borderTop = `3px solid ${theme.palette[i % theme.palette.length]}`));
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, panel, box, theme } = this;
    const [, series, categories] = panel.values.shape;
    const inner = box.pitch > 6 ? box.pitch * 0.8 : box.pitch;
    const width = inner / series;
    context.clearRect(0, 0, this.width, this.height);
    for (let s = 0; s < series; s += 1) {
      for (let c = 0; c < categories; c += 1) {
        const value = panel.values[(this.player.index * series + s) * categories + c];
        if (!Number.isFinite(value)) continue;
        context.fillStyle = theme.palette[series > 1 ? s % theme.palette.length : value < 0 ? 1 : 0];
        const [from, to] = [this.y(0), this.y(value)];
        const x = box.left + (c + 0.5) * box.pitch - inner / 2 + s * width;
        context.fillRect(x, Math.min(from, to), Math.max(width - (width > 4 ? 1 : 0), 0.5), Math.abs(to - from));
      }
    }
    if (this.pointer) this.retip();
  }

  under(x) {
    const { box, panel } = this;
    if (!box) return null;
    const [, series, categories] = panel.values.shape;
    const category = Math.floor((x - box.left) / box.pitch);
    if (category < 0 || category >= categories) return null;
    const values = panel.series.map((name, s) => {
      const value = exact(panel.values[(this.player.index * series + s) * categories + category]);
      return series > 1 ? `${name} ${value}` : value;
    });
    return `${panel.category_axis} ${panel.categories[category]}: ${values.join(", ")} ${panel.unit}`;
  }
}

const MOST_LABELS = 24; // of points; of more, each says its name when it is pointed at

// Points on two axes of one scale.
class Scatter extends CanvasPanel {
  layout() {
    const { panel, theme } = this;
    const size = clamp(this.root.clientWidth - 64, 160, 420);
    if (!this.fit(size + 48)) return;
    const side = Math.min(this.width - 64, size);
    this.box = { left: 56, top: 8, side };
    const extent = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const [xs, ys] = [extent(panel.x), extent(panel.y)];
    const span = 1.1 * Math.max(xs[1] - xs[0], ys[1] - ys[0]) || 1;
    const [left, low] = [xs, ys].map(([from, to]) => (from + to - span) / 2);
    const { base: context, box } = this;
    this.at = (x, y) => [box.left + ((x - left) / span) * side, box.top + side - ((y - low) / span) * side];
    context.clearRect(0, 0, this.width, this.height);
    context.lineWidth = 1;
    const rule = (value, from, to) => {
      context.strokeStyle = Math.abs(value) < span * 1e-9 ? theme.soft : theme.line;
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    };
    for (const value of ticks(left, left + span, 4)) {
      const [x] = this.at(value, low);
      rule(value, [x, box.top], [x, box.top + side]);
      this.write(context, tick(value), x, box.top + side + 14, { align: "center" });
    }
    for (const value of ticks(low, low + span, 4)) {
      const [, y] = this.at(left, value);
      rule(value, [box.left, y], [box.left + side, y]);
      this.write(context, tick(value), box.left - 8, y, { align: "right" });
    }
    this.write(context, `${panel.y_axis} ↑   ${panel.x_axis} →`, box.left, this.height - 6, {});
    if (panel.trail) {
      const [frames, points] = panel.x.shape;
      context.strokeStyle = theme.line;
      context.lineWidth = 2;
      for (let p = 0; p < points; p += 1) this.path(context, p, frames);
    }
  }

  colour(p) {
    const points = this.panel.labels.length;
    // In a ring the hue goes around with it; of few points each has its own colour.
    if (this.panel.ring) return `hsl(${(360 * p) / points} 60% ${this.theme.mode === "light" ? 42 : 66}%)`;
    return this.theme.palette[p % this.theme.palette.length];
  }

  // The way of a point through the first frames.
  path(context, p, frames) {
    const { panel } = this;
    const points = panel.labels.length;
    context.lineJoin = "round";
    context.beginPath();
    for (let f = 0; f < frames; f += 1) context.lineTo(...this.at(panel.x[f * points + p], panel.y[f * points + p]));
    context.stroke();
  }

  places() {
    const { panel } = this;
    const first = this.player.index * panel.labels.length;
    return panel.labels.map((_, p) => this.at(panel.x[first + p], panel.y[first + p]));
  }

  live() {
    if (!this.top || !this.box) return;
    const { top: context, panel, theme } = this;
    const places = this.places();
    context.clearRect(0, 0, this.width, this.height);
    if (panel.ring) {
      context.strokeStyle = theme.line;
      context.lineWidth = 1;
      context.beginPath();
      for (const place of [...places, places[0]]) context.lineTo(...place);
      context.stroke();
    }
    places.forEach(([x, y], p) => {
      if (panel.trail) {
        context.strokeStyle = this.colour(p);
        context.lineWidth = 2;
        this.path(context, p, this.player.index + 1);
      }
      context.fillStyle = panel.trail ? theme.cursor : this.colour(p);
      context.beginPath();
      context.arc(x, y, panel.trail ? 6 : 4, 0, 7);
      context.fill();
      if (places.length <= MOST_LABELS && !panel.trail) this.write(context, panel.labels[p], x + 6, y - 6, { size: 11 });
    });
    if (this.pointer) this.retip();
  }

  under(x, y) {
    if (!this.box) return null;
    const { panel } = this;
    const n = panel.labels.length;
    // On a trail every snapshot can be asked, else those points that are here.
    const [first, last] = panel.trail ? [0, panel.x.length] : [this.player.index * n, (this.player.index + 1) * n];
    let found = null;
    for (let i = first; i < last; i += 1) {
      const [px, py] = this.at(panel.x[i], panel.y[i]);
      const off = Math.hypot(px - x, py - y);
      if (off < (found?.off ?? 16)) found = { off, i };
    }
    if (!found) return null;
    const { i } = found;
    const when = panel.trail ? ` at step ${count(this.player.film.steps[Math.floor(i / n)])}` : "";
    return `${panel.labels[i % n]}${when}: ${panel.x_axis} ${exact(panel.x[i])}, ${panel.y_axis} ${exact(panel.y[i])}`;
  }
}

// A number beside an axis.
const tick = (value) => (value !== 0 && Math.abs(value) < 0.01 ? value.toExponential(1) : String(Number(value.toPrecision(3))));

const fitting = (label, width) => (label.length * 6 <= width ? label : `${label.slice(0, Math.max(2, Math.floor(width / 6) - 1))}…`);

class Tokens extends Panel {
  constructor(panel, player) {
    super(panel, player);
    const after = panel.places.filter((place) => place >= panel.prompt.length);
    const cells = [...panel.prompt, ...after.map(() => "")].map((token) => element("span", { class: "token prompt" }, token));
    this.answers = panel.places.map((place) => cells[place]);
    this.row = element("div", { class: `strip${cells.length > 32 ? " dense" : ""}`, role: "img" }, ...cells);
    this.root.append(this.row);
  }

  layout() {
    this.root.style.setProperty("--right", this.theme.right);
    this.root.style.setProperty("--wrong", this.theme.wrong);
  }

  live() {
    const { panel } = this;
    const n = panel.targets.length;
    const said = this.answers.map((cell, i) => {
      const at = this.player.index * n + i;
      const token = panel.answers[at];
      const right = token === panel.targets[i];
      const label = panel.vocabulary[token];
      const given = panel.places[i] < panel.prompt.length; // it stands there already, and what the model said below it
      if (given) cell.dataset.said = right ? "" : label;
      else if (cell.textContent !== label) cell.textContent = label;
      cell.className = `token answer ${given ? "given" : ""} ${right ? "right" : "wrong"}`;
      cell.dataset.mark = right ? "✓" : "✗";
      cell.title = `${label}, ${right ? "right" : `wrong: it is ${panel.vocabulary[panel.targets[i]]}`}, probability ${exact(panel.probabilities[at])}`;
      return label;
    });
    this.row.setAttribute("aria-label", `${panel.prompt.join("")} ${said.join("")}`);
  }
}

class Text extends Panel {
  constructor(panel, player) {
    super(panel, player);
    this.block = element("pre");
    this.root.append(this.block);
    this.longest = Math.max(1, ...panel.blocks.flatMap((block) => block.split("\n").map((line) => line.length)));
  }

  // Letters as large as leave the longest line whole: monospaced ones are about 0.61 of their size wide.
  layout() {
    const size = clamp((this.root.clientWidth - 32) / (0.61 * this.longest), 11, 18);
    this.block.style.fontSize = `${size}px`;
  }

  live() {
    const { blocks } = this.panel;
    const text = blocks[blocks.length > 1 ? this.player.index : 0];
    if (this.block.textContent !== text) this.block.textContent = text;
  }
}

const KINDS = { curves: Curves, raster: Raster, heatmaps: Heatmaps, columns: Columns, scatter: Scatter, bars: Bars, tokens: Tokens, text: Text };

// --- The player ---

class Player {
  constructor(root) {
    this.root = root;
    this.position = 0; // in snapshots; whole while paused
    this.playing = false;
    this.panels = [];
    this.transport();
    this.grid = element("div", { class: "panels" });
    root.append(this.bar, this.grid);
    this.tabbed = false; // whether the focus came by keyboard
    this.onKey = (event) => this.key(event);
    this.onPointer = () => (this.tabbed = false);
    document.addEventListener("keydown", this.onKey, true);
    document.addEventListener("pointerdown", this.onPointer, true);
    this.resizing = new ResizeObserver(() => this.layout());
    this.resizing.observe(root);
  }

  close() {
    this.pause();
    clearTimeout(this.reporting);
    this.resizing.disconnect();
    document.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("pointerdown", this.onPointer, true);
  }

  // How much larger everything is while the player fills the screen.
  get zoom() {
    return Number(getComputedStyle(this.root).zoom) || 1;
  }

  fill() {
    const root = this.root.getRootNode();
    if (root.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen();
  }

  get here() {
    return this.film.steps[this.index];
  }

  get index() {
    return Math.floor(this.position);
  }

  transport() {
    const button = (name, label, act) => {
      const made = element("button", { type: "button", class: name, title: label, "aria-label": label }, icon(name));
      made.onclick = act;
      return made;
    };
    this.playButton = button("play", "Play (Space)", () => this.toggle());
    this.playButton.append(element("kbd", {}, "Space"));
    this.range = element("input", { type: "range", min: 0, step: 1, "aria-label": "Snapshot" });
    this.range.oninput = () => {
      this.pause();
      this.seek(Number(this.range.value));
    };
    this.range.onchange = () => this.report();
    this.speeds = element("select", { "aria-label": "Speed", title: "Speed" });
    for (const speed of SPEEDS) this.speeds.append(element("option", { value: speed }, `${speed}×`));
    this.speeds.value = memory.speed;
    this.speeds.onchange = () => {
      memory.speed = Number(this.speeds.value);
      this.speeds.blur();
    };
    this.step = element("span");
    this.frame = element("small");
    this.bar = element(
      "div",
      { class: "transport", role: "group", "aria-label": "Playback" },
      button("back", "Step back (←)", () => this.nudge(-1)),
      this.playButton,
      button("forward", "Step forward (→)", () => this.nudge(1)),
      this.speeds,
      this.range,
      element("div", { class: "where" }, this.step, this.frame),
      button("full", "Fill the screen, for a talk (F)", () => this.fill()),
    );
  }

  // Show a film, at the step where people were, unless the position was set from outside since.
  show(film) {
    if (this.panels.some((panel) => panel.dragging)) return void (this.waiting = film);
    if (film.move !== memory.move) {
      memory.move = film.move;
      memory.step = memory.reported = film.start;
    }
    // Whoever stood at the last snapshot of a run that is being trained goes on to the newest.
    const grown = this.film && film.steps.length > this.film.steps.length && this.film.steps.every((step, i) => step === film.steps[i]);
    // It has not been stopped there by hand, so there is nothing to report.
    if (grown && !this.playing && memory.step === this.film.steps.at(-1)) memory.step = memory.reported = film.steps.at(-1);
    const between = this.position % 1; // while playing
    const buttons = () => [...this.grid.querySelectorAll("button")];
    const focused = buttons().indexOf(this.root.getRootNode().activeElement);
    this.film = film;
    this.range.max = film.steps.length - 1;
    this.panels = film.panels.map((panel) => new KINDS[panel.kind](panel, this));
    this.grid.replaceChildren(...this.panels.map((panel) => panel.root));
    this.position = nearest(film.steps, memory.step);
    if (this.playing) this.position = Math.min(this.position + between, film.steps.length - 1);
    this.retheme();
    this.paint(); // at once, so that nothing jumps
    if (focused >= 0) buttons()[focused]?.focus();
    if (!this.playing) this.reportSoon(); // if the page was left before the position was told
  }

  // Show the film that came while somebody was dragging.
  catchUp() {
    const { waiting } = this;
    this.waiting = null;
    if (waiting) this.show(waiting);
  }

  retheme() {
    this.theme = readTheme(this.root);
    this.layout();
  }

  layout() {
    if (!this.film) return;
    for (const panel of this.panels) panel.layout();
    this.redraw();
  }

  // Draw once before the next paint, however often it is asked for.
  draw() {
    this.pending ??= requestAnimationFrame(() => {
      this.pending = null;
      this.paint();
    });
  }

  paint() {
    const { film, index } = this;
    for (const panel of this.panels) if (panel.moves || index !== this.painted) panel.live();
    const step = film.steps[index];
    this.root.dispatchEvent(new CustomEvent("painted", { detail: { step } }));
    if (index === this.painted) return;
    this.painted = index;
    this.range.value = index;
    this.range.setAttribute("aria-valuetext", `step ${step}`);
    memory.step = step;
    this.step.textContent = `step ${count(step)}`;
    this.frame.textContent = `snapshot ${index + 1} of ${film.steps.length}`;
    this.root.dataset.step = step;
  }

  // Draw all panels, also where the snapshot is as it was.
  redraw() {
    this.painted = null;
    this.draw();
  }

  seek(index) {
    this.position = clamp(index, 0, this.film.steps.length - 1);
    this.draw();
  }

  nudge(by) {
    this.pause();
    this.seek(this.index + by);
    this.reportSoon();
  }

  toggle() {
    if (this.playing) {
      this.pause();
      this.report();
    } else this.play();
  }

  play() {
    const last = () => this.film.steps.length - 1; // a run that is being trained grows meanwhile
    if (this.index >= last()) this.position = 0;
    this.playing = true;
    this.playButton.firstChild.replaceWith(icon("pause"));
    let then = null;
    const tick = (now) => {
      then ??= now;
      this.position = Math.min(this.position + ((now - then) / 1000) * memory.speed * (this.film.steps.length / SECONDS), last());
      then = now;
      this.paint();
      if (this.position >= last()) this.toggle();
      else this.ticking = requestAnimationFrame(tick);
    };
    this.ticking = requestAnimationFrame(tick);
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.ticking);
    this.playButton.firstChild.replaceWith(icon("play"));
    this.seek(this.index);
  }

  report() {
    clearTimeout(this.reporting);
    if (this.here !== memory.reported) this.onStep(this.here);
    memory.reported = this.here;
  }

  reportSoon() {
    clearTimeout(this.reporting);
    this.reporting = setTimeout(() => this.report(), REPORT_DELAY);
  }

  // Keys work wherever the focus is, except in a text and on a control that was reached by keyboard: what was merely
  // clicked keeps the focus but not the keys.
  key(event) {
    if (event.key === "Tab") this.tabbed = true;
    if (!this.film || event.ctrlKey || event.metaKey || event.altKey || !this.root.isConnected) return;
    const target = event.composedPath()[0];
    if (target.isContentEditable || (/^(INPUT|TEXTAREA)$/.test(target.tagName) && !/^(range|radio|checkbox)$/.test(target.type))) {
      if (event.key === "Enter") setTimeout(() => target.blur());
      return;
    }
    if (target.closest?.("[role=listbox], [role=dialog]")) return;
    if ((target.type === "range" || target.getAttribute?.("role") === "slider") && target !== this.range) return;
    const control = /^(BUTTON|SELECT|SUMMARY|INPUT)$/.test(target.tagName) || target.getAttribute?.("role");
    if (this.tabbed && control && !(target.type === "range" && event.key === " ")) return;
    const last = this.film.steps.length - 1;
    const acts = {
      ArrowLeft: () => this.nudge(-1),
      ArrowRight: () => this.nudge(1),
      Home: () => this.nudge(-last),
      End: () => this.nudge(last),
      f: () => event.repeat || this.fill(),
      Escape: () => this.panels.forEach((panel) => panel.escape()),
      " ": () => event.repeat || this.toggle(),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }
}

// The component: called again with each new message and each change of theme.
export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".film");
  const player = (root.player ??= new Player(root));
  // The time makes two stops at one step two events.
  player.onStep = (step) => setStateValue("stopped", { step, at: performance.now() });
  if (player.message === data) player.retheme();
  else player.show(decode((player.message = data)));
  return () => {
    player.close();
    root.replaceChildren();
    delete root.player;
  };
}
