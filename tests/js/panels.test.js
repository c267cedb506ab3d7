// The pure part of every kind of panel: layouts, values under the pointer, tables.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as bars from "../../explorer/film/js/panels/bars.js";
import * as columns from "../../explorer/film/js/panels/columns.js";
import * as curves from "../../explorer/film/js/panels/curves.js";
import * as diagram from "../../explorer/film/js/panels/diagram.js";
import * as heatmaps from "../../explorer/film/js/panels/heatmaps.js";
import * as raster from "../../explorer/film/js/panels/raster.js";
import * as scatter from "../../explorer/film/js/panels/scatter.js";
import * as text from "../../explorer/film/js/panels/text.js";
import * as tokens from "../../explorer/film/js/panels/tokens.js";
import { exact } from "../../explorer/film/js/numbers.js";
import { limits } from "../../explorer/film/js/scales.js";
import { stepScale } from "../../explorer/film/js/timeline.js";

/** @param {number[]} values @param {number[]} [shape] @returns {any} */
const f4 = (values, shape = [values.length]) => Object.assign(new Float32Array(values), { shape });
/** @param {number[]} values @returns {any} */
const i4 = (values) => Object.assign(new Int32Array(values), { shape: [values.length] });
const common = { id: "one", title: "One", span: 12, gaps: [] };

/** @param {Partial<heatmaps.HeatmapsData>} [more] @returns {any} */
const maps = (more = {}) => ({
  ...common,
  kind: "heatmaps",
  maps: ["L0H0", "L0H1"],
  rows: ["a", "b"],
  columns: ["a", "b"],
  row_axis: "query",
  column_axis: "key",
  low: 0,
  high: 1,
  full_colour_at: null,
  scale: "sequential",
  outlines: [],
  // Two frames that are sent, for three; the cell (0, 1) lies in the future.
  values: f4([1, 0.25, 0.75, 1, 0.5, 0.5, 1e-6, 3.312345e-6, -2e-9, NaN, 4e-6, 0], [2, 2, 3]),
  frames: i4([0, 1, 1]),
  cells: i4([0, 2, 3]),
  ...more,
});

test("a map's value is found in every frame, and is NaN where a cell has none", () => {
  const { value } = heatmaps.finder(maps());
  assert.equal(value(0, 0, 0), 1);
  assert.ok(Number.isNaN(value(0, 0, 1)));
  assert.equal(value(0, 1, 3), 0.5);
  assert.equal(exact(value(1, 0, 2)), "0.000003312345");
  assert.equal(value(2, 0, 2), value(1, 0, 2));
  assert.ok(Number.isNaN(value(2, 1, 0)));
  const whole = heatmaps.finder(maps({ values: f4([...Array(24).keys()], [3, 2, 4]), frames: null, cells: null }));
  assert.equal(whole.value(2, 1, 3), 23);
});

test("the largest value of a frame is found however small it is", () => {
  const { largest } = heatmaps.finder(maps());
  assert.equal(largest(0, [0, 1]), 1);
  assert.equal(largest(1, [0]), Math.fround(3.312345e-6));
  assert.equal(largest(2, [1]), Math.fround(4e-6));
});

test("maps are beside each other as long as they can be read", () => {
  const sizes = { shown: [0, 1, 2, 3], all: 4, rows: 18, columns: 18, margin: { left: 20, top: 18 }, named: true };
  const wide = heatmaps.layout({ ...sizes, width: 1300 });
  assert.deepEqual(
    wide.boxes.map(({ y }) => y),
    [42, 42, 42, 42],
  );
  const narrow = heatmaps.layout({ ...sizes, width: 480 });
  assert.deepEqual(
    narrow.boxes.map(({ x }) => x),
    [20, narrow.boxes[1].x, 20, narrow.boxes[1].x],
  );
  for (const { boxes, height } of [wide, narrow]) {
    for (const box of boxes) assert.ok(box.y + box.h <= height && box.w > 100);
    assert.ok(boxes[0].x + boxes[0].w < boxes[1].x);
  }
  const fine = { ...sizes, rows: 59, columns: 59, margin: { left: 96, top: 80 } };
  const { boxes } = heatmaps.layout({ ...fine, width: 950 });
  assert.ok(boxes[1].y === boxes[0].y && boxes[2].y > boxes[0].y && boxes[0].w > 3 * 59); // cells can be seen
  const single = heatmaps.layout({ ...sizes, shown: [2], width: 1300 });
  assert.equal(single.boxes[0].map, 2);
  assert.ok(single.boxes[0].w > wide.boxes[0].w);
});

test("a map's numbers are a table of the cells that have a value", () => {
  const { columns: names, rows } = heatmaps.table(maps(), 1);
  assert.deepEqual(names, ["map", "query", "key", "value"]);
  assert.deepEqual(
    rows.map((row) => row.slice(0, 3).join(" ")),
    ["L0H0 a a", "L0H0 b a", "L0H0 b b", "L0H1 b a", "L0H1 b b"],
  );
  assert.equal(rows[1][3], Math.fround(3.312345e-6));
});

/** @returns {any} */
const losses = () => ({
  ...common,
  kind: "curves",
  unit: "nats",
  smoothing: 0.9,
  references: [["uniform guess", 2.3]],
  lines: [
    {
      label: "copy 1, first",
      measured: i4([0, 9]),
      raw: { steps: i4([0, 9]), values: f4([2, 0.5]), frames: f4([2, 0.5]) },
      smoothed: { steps: i4([0, 9]), values: f4([1.9, 0.6]), frames: f4([1.9, 0.6]) },
    },
    {
      label: "copy 1, second",
      measured: i4([0, 9]),
      raw: { steps: i4([0, 9]), values: f4([4, NaN]), frames: f4([4, NaN]) },
      smoothed: { steps: i4([0, 9]), values: f4([3.9, NaN]), frames: f4([3.9, NaN]) },
    },
  ],
});

test("a curve's interval stands beside its value", () => {
  const panel = { ...losses(), smoothing: 0 };
  const raw = { steps: i4([0, 9]), values: f4([1, 2]), frames: f4([1, 2]), margins: f4([0.5, 0.25]) };
  panel.lines = [{ label: "one", measured: i4([0, 9]), raw }];
  assert.deepEqual(curves.table(panel, 1), { columns: ["curve", "step", "nats", "±"], rows: [["one", 9, 2, 0.25]] });
});

test("a group's value is the mean of those of its curves that have one", () => {
  const panel = losses();
  const raw = panel.lines.map((/** @type {any} */ line) => line.raw);
  assert.equal(curves.meanAt(raw, 0), 3);
  assert.equal(curves.meanAt(raw, 1), 0.5);
  assert.ok(Number.isNaN(curves.meanAt(raw, 7)));
});

test("an axis includes all values and references, but zero only on a linear scale", () => {
  assert.deepEqual(limits([[2, NaN, 0.5]], [], false), [0, 2.1]);
  assert.deepEqual(limits([[-1, 1]], [3], false), [-1.05, 3 * 1.05]);
  assert.deepEqual(limits([[0, 0.1, 1]], [2], true), [0.1, 2.6]);
  assert.deepEqual(limits([[1e-30, 1]], [], true), [1e-10, 1.3]);
  assert.deepEqual(limits([], [], false), [0, 1.05]);
});

test("curves' numbers are the raw and the smoothed values of the frame", () => {
  const { columns: names, rows } = curves.table(losses(), 1);
  assert.deepEqual(names, ["curve", "step", "nats", "smoothed"]);
  assert.deepEqual(rows[0], ["copy 1, first", 9, 0.5, Math.fround(0.6)]);
});

test("curves leave room for their axes, and are lower where it is narrow", () => {
  const wide = curves.layout({ width: 1000, height: 320, left: 48 });
  assert.deepEqual(wide, { height: 320, box: { left: 48, top: 8, right: 984, bottom: 280 } });
  assert.equal(curves.layout({ width: 400, height: 320, left: 48 }).height, 240);
  assert.equal(curves.layout({ width: 400, height: 200, left: 48 }).height, 200);
});

test("the scale between steps and places has an inverse, and covers all curves", () => {
  const { x, stepAt } = stepScale({ left: 48, right: 984 }, [0, 100, 200], [[], [5, 150, 400]]);
  assert.deepEqual([x(0), x(400)], [48, 984]);
  for (const step of [0, 77, 400]) assert.ok(Math.abs(stepAt(x(step)) - step) < 1e-9);
  assert.equal(stepScale({ left: 0, right: 10 }, [3], []).x(3), 0);
});

test("a flag says its step, or its stretch of steps", () => {
  const flag = { label: "units: falls", step: 1500, colour: 0, group: "units", until: null };
  assert.equal(curves.said(flag), "units: falls at step 1,500");
  assert.equal(curves.said({ ...flag, until: 2000 }), "units: falls from step 1,500 to 2,000");
});

test("the rows of a raster share its height, and its numbers are those of the frame", () => {
  assert.equal(raster.layout({ width: 800, left: 60, rows: 6 }).pitch, 24);
  assert.equal(raster.layout({ width: 800, left: 60, rows: 64 }).pitch, 10);
  assert.equal(
    raster.layout({ width: 800, left: 60, rows: 600 }).height,
    raster.layout({ width: 800, left: 60, rows: 64 }).height,
  );
  const panel = /** @type {any} */ ({
    ...common,
    rows: ["a", "b"],
    steps: i4([0, 5]),
    values: f4([1, 0.5, 1, 0]),
    frames: i4([0, 1]),
    unit: "left",
    marks: f4([NaN, 5]),
    mark: "steepest",
  });
  assert.deepEqual(raster.table(panel, 1), {
    columns: ["row", "left", "steepest"],
    rows: [
      ["a", 0.5, NaN],
      ["b", 0, 5],
    ],
  });
});

test("the axis of columns includes zero, and labels do not overlap", () => {
  assert.deepEqual(columns.limits([-2, NaN, 1]), [-2.15, 1.15]);
  assert.deepEqual(columns.limits([]), [0, 1]);
  const names = [...Array(57).keys()].map(String);
  const { box, every, turned } = columns.layout({ width: 600, height: 280, categories: names });
  assert.ok(!turned && every * box.pitch >= 8 * 2);
  assert.equal(columns.layout({ width: 300, height: 280, categories: ["embedding", "L0H0", "L0 MLP"] }).turned, false);
  assert.equal(columns.layout({ width: 200, height: 280, categories: ["embedding", "L0H0", "L0 MLP"] }).turned, true);
  const values = f4([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2]);
  const panel = /** @type {any} */ ({
    ...common,
    categories: ["a", "b"],
    series: ["x", "y"],
    category_axis: "rank",
    values,
  });
  assert.deepEqual(columns.table(panel, 1), {
    columns: ["rank", "x", "y"],
    rows: [
      ["a", 5, 7],
      ["b", 6, 8],
    ],
  });
});

test("points lie in a square whose axes have one scale", () => {
  const { at, box } = scatter.layout({ width: 400, x: [0, 10], y: [0, 1] });
  const [[x0, y0], [x1, y1]] = [at(0, 0), at(10, 1)];
  assert.ok(Math.abs((x1 - x0) / 10 - (y0 - y1)) < 1e-9);
  for (const x of [x0, x1]) assert.ok(x > box.left && x < box.left + box.side);
  const panel = /** @type {any} */ ({
    ...common,
    labels: ["p", "q"],
    x: f4([1, 2, 3, 4]),
    y: f4([5, 6, 7, 8]),
    x_axis: "PC1",
    y_axis: "PC2",
  });
  assert.deepEqual(scatter.table(panel, 1), {
    columns: ["point", "PC1", "PC2"],
    rows: [
      ["p", 3, 7],
      ["q", 4, 8],
    ],
  });
});

test("points have the colour of their category or of their number", () => {
  const panel = /** @type {any} */ ({
    ...common,
    labels: ["p", "q"],
    x: f4([1, 2, 3, 4], [2, 2]),
    y: f4([5, 6, 7, 8], [2, 2]),
    x_axis: "PC1",
    y_axis: "PC2",
    colouring: { name: "token", values: f4([1, 0], [1, 2]), categories: ["a", "b"], low: 0, high: 1 },
  });
  for (const frame of [0, 1]) assert.equal(scatter.coloured(panel.colouring, frame, 0), 1); // the same in all frames
  assert.deepEqual(scatter.table(panel, 1), {
    columns: ["point", "PC1", "PC2", "token"],
    rows: [
      ["p", 3, 7, "b"],
      ["q", 4, 8, "a"],
    ],
  });
  const colouring = { name: "loss", values: f4([0, 1, 2, NaN], [2, 2]), categories: [], low: 0, high: 2 };
  assert.equal(scatter.coloured(colouring, 1, 0), 2);
  assert.deepEqual(scatter.table({ ...panel, colouring }, 1).rows[0], ["p", 3, 7, 2]);
  assert.equal(scatter.named(colouring, 0.25), "0.25");
  const levels = [0, 1, 2, 9].map((value) => scatter.level(colouring, value));
  assert.deepEqual(levels, [85, 170, 255, 255]); // the lowest is not the colour of the page
  assert.equal(scatter.level(colouring, NaN), -1);
});

test("groups of bars share their labels or have their own", () => {
  const shared = {
    width: 600,
    groups: 2,
    labels: [
      ["0", "1"],
      ["0", "1"],
    ],
    own: false,
  };
  assert.equal(bars.layout(shared).box.pitch, 160);
  const own = bars.layout({ ...shared, own: true }).box;
  assert.ok(own.cell < own.pitch - own.left);
  const panel = /** @type {any} */ ({
    ...common,
    groups: ["tens"],
    categories: [["7", "other"]],
    targets: [0],
    predicted: [],
    values: f4([0.1, 0.9, 0.75, 0.25]),
  });
  assert.deepEqual(bars.table(panel, 1).rows, [
    ["tens", "7", 0.75, "yes"],
    ["tens", "other", 0.25, "no"],
  ]);
});

test("predictions after the prompt have cells of their own", () => {
  const panel = /** @type {any} */ ({
    ...common,
    prompt: ["1", "+", "1", "="],
    places: [4],
    answers: i4([0, 2]),
    probabilities: f4([0.5, 1]),
    targets: [2],
    vocabulary: ["0", "1", "2"],
  });
  assert.deepEqual(tokens.layout(panel), { texts: ["1", "+", "1", "=", ""], dense: false });
  assert.equal(tokens.layout({ prompt: Array(40).fill("a"), places: [3] }).texts.length, 40);
  assert.deepEqual(tokens.table(panel, 1).rows, [[4, "2", 1, "2"]]);
});

test("text is as large as its longest line allows", () => {
  assert.equal(text.layout({ width: 2000, longest: 20 }).size, 18);
  assert.equal(text.layout({ width: 100, longest: 80 }).size, 11);
  assert.deepEqual(text.table(/** @type {any} */ ({ blocks: ["a", "b\nc"] }), 1).rows, [["b"], ["c"]]);
  assert.deepEqual(text.table(/** @type {any} */ ({ blocks: ["a"] }), 1).rows, [["a"]]);
});

test("in a gap, no token is predicted, and no cell of a map has a value", () => {
  const strip = {
    ...common,
    kind: "tokens",
    gaps: [1],
    prompt: ["1"],
    answers: Object.assign(new Int32Array([0, -1]), { shape: [2, 1] }),
    probabilities: f4([0.5, NaN], [2, 1]),
    targets: [1],
    places: [1],
    vocabulary: ["a", "b"],
  };
  assert.deepEqual(tokens.table(strip, 0).rows, [[1, "a", 0.5, "b"]]);
  assert.deepEqual(tokens.table(strip, 1).rows, [[1, "–", NaN, "b"]]);
  assert.deepEqual(heatmaps.table(maps({ values: f4(Array(12).fill(NaN), [2, 2, 3]) }), 0).rows, []);
});

/** @returns {any} */
const drawing = () => ({
  ...common,
  kind: "diagram",
  tokens: ["1", "+", "2", "=", "3"],
  places: ["tens", "units"],
  answers: ["0", "3"],
  asked: 1,
  asks: [2, 3],
  parts: ["embedding", "L0H0", "L1H0"],
  rows: [0, 0, 1],
  heads: [1, 2],
  attention: f4(
    Array.from({ length: 40 }, (_, i) => i),
    [2, 2, 2, 5],
  ),
  added: f4(
    Array.from({ length: 12 }, (_, i) => i / 10),
    [2, 2, 3],
  ),
  probability: f4([0.1, 0.2, 0.3, 0.4], [2, 2]),
  unit: "logits",
});

test("a diagram has its parts in rows between tokens and answers, and nothing overlaps", () => {
  for (const [width, least] of [
    [300, 0],
    [1400, 0],
    [960, 14],
  ]) {
    const at = diagram.layout({ width, least, tokens: 5, rows: [0, 0, 1], answers: 2 });
    const [first, second] = [at.parts[0], at.parts[2]];
    assert.ok(at.tokens[0].y + at.tokens[0].h < first.y);
    assert.equal(at.parts[1].y, first.y);
    assert.ok(first.x + first.w < at.parts[1].x);
    assert.ok(first.y + first.h < second.y);
    assert.ok(second.y + second.h < at.answers[0].y);
    for (const { x, y, w, h } of [...at.tokens, ...at.parts, ...at.answers]) {
      assert.ok(x >= 0 && x + w <= width && y >= 0 && y + h <= at.height);
    }
  }
  assert.equal(diagram.layout({ width: 900, room: 500, tokens: 85, rows: [0], answers: 30 }).height, 500);
});

test("a diagram's numbers are found by frame, answer, head and token", () => {
  const find = diagram.finder(drawing());
  assert.equal(find.attention(1, 0, 1, 4), 29);
  assert.equal(find.added(1, 1, 2), Math.fround(1.1));
  assert.equal(find.probability(0, 1), Math.fround(0.2));
  const { columns, rows } = diagram.table(drawing(), 1);
  assert.equal(columns.length, 4);
  assert.deepEqual(rows[0].slice(0, 3), ["tens: 0", "", "probability"]);
  // Of each answer its probability, three parts, and for each head the tokens up to where it is asked for.
  assert.equal(rows.length, 2 * (1 + 3) + 2 * 3 + 2 * 4);
  assert.deepEqual(rows.at(-1), ["units: 3", "L1H0", "attention to 3: =", 38]);
});
