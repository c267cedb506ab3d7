// The pure part of planes: true places of cells, their labels, values and tables.

import assert from "node:assert/strict";
import { test } from "node:test";

import { LABEL_GAP, centres, edges, finder, layout, narrowest } from "../../explorer/film/js/cells.js";
import { contrast, hex, readable } from "../../explorer/film/js/colour.js";
import { table } from "../../explorer/film/js/panels/plane.js";
import { short } from "../../explorer/film/js/numbers.js";
import { apart } from "../../explorer/film/js/scales.js";

/** @param {number[]} values @param {number[]} shape @returns {any} */
const f4 = (values, shape) => Object.assign(new Float32Array(values), { shape });
/** @param {number[]} values @param {number[]} [shape] @returns {any} */
const i4 = (values, shape = [values.length]) => Object.assign(new Int32Array(values), { shape });

/** @param {string[]} labels */
const words = (labels) => ({
  name: "words",
  labels,
  log: false,
  places: labels.map((_, i) => i),
  borders: [...labels, ""].map((_, i) => i - 0.5),
});
const rates = {
  name: "rate",
  labels: ["0.001", "0.01", "1"],
  log: true,
  places: [0.001, 0.01, 1],
  borders: [10 ** -3.5, 10 ** -2.5, 0.1, 10],
};

test("cells lie at their true places on a logarithmic axis, in whole pixels", () => {
  const ends = edges(rates, 100, 1000);
  assert.deepEqual(ends, [100, 300, 600, 1000]); // 200 pixels to a power of ten
  const middles = centres(rates, 100, 1000);
  [200, 400, 800].forEach((x, i) => assert.ok(Math.abs(middles[i] - x) < 1e-9));
  // Borders are midway between neighbours, and no cell lies on another.
  [0, 1].forEach((i) => assert.ok(Math.abs((middles[i] + middles[i + 1]) / 2 - ends[i + 1]) < 1));
  assert.deepEqual(edges(words(["a", "b"]), 400, 0), [400, 200, 0]); // rows go upwards
});

test("a plane and its curves are beside each other, or below each other where it is narrow", () => {
  const sizes = { rows: words(["a", "b", "c", "d", "e"]), columns: rates, curves: true };
  for (const [width, room, least] of /** @type {[number, number | null, number][]} */ ([
    [360, null, 0],
    [800, null, 0],
    [1400, null, 0],
    [1860, null, 0],
    [912, 330, 14],
    [500, 420, 14],
  ])) {
    const { height, cells, curves, foot } = layout({ width, room, least, ...sizes });
    assert.ok(curves);
    if (room !== null) assert.ok(height <= room + 1);
    for (const box of [cells, curves]) {
      assert.ok(box.left >= 24 && box.right <= width && box.right - box.left > 100);
      assert.ok(box.top >= 28 && box.bottom <= height - 40 && box.bottom - box.top > 60);
    }
    const isBeside = curves.left > cells.right;
    assert.equal(isBeside, width >= 680);
    assert.ok(isBeside ? curves.bottom === cells.bottom : curves.top >= cells.bottom + foot);
  }
  const row = layout({ width: 1400, rows: words(["a"]), columns: rates, curves: true });
  assert.ok(row.curves && row.curves.top > row.cells.bottom && row.cells.bottom - row.cells.top < 100);
  const alone = layout({ width: 1400, rows: words(["a", "b"]), columns: rates, curves: false });
  assert.equal(alone.curves, null);
  assert.ok(alone.cells.right - alone.cells.left <= 3 * 240);
});

test("labels of columns are turned only where they would lie on each other", () => {
  const many = { ...words([...Array(40).keys()].map((i) => `${i / 1000 + 1}`)) };
  const sizes = { rows: words(["a", "b"]), curves: true };
  assert.ok(layout({ width: 800, columns: many, ...sizes }).turned);
  assert.ok(!layout({ width: 800, columns: rates, ...sizes }).turned);
  const { cells } = layout({ width: 800, columns: many, ...sizes });
  const xs = centres(many, cells.left, cells.right);
  const kept = apart(xs, 15);
  assert.ok(kept.length > 10 && narrowest(kept.map((c) => xs[c])) >= 15 && LABEL_GAP > 0);
  assert.deepEqual(apart([0, 3, 10, 11, 25], 10), [0, 2, 4]);
});

/** Two frames that are sent, for three; one row, two columns, two curves of three points. @returns {any} */
const panel = (more = {}) => ({
  ...{ kind: "plane", id: "one", title: "One", span: 12, gaps: [] },
  rows: words(["only"]),
  columns: words(["a", "b"]),
  values: f4([0, NaN, 1, 0], [2, 1, 2]),
  frames: i4([0, 1, 1]),
  kinds: ["confusion", "grokking"],
  agree: i4([2, 0, 3, 1], [2, 1, 2]),
  n: i4([3, 3], [1, 2]),
  curves: f4([0, 0.5, 1, 0, 0.25, 0.5, NaN, NaN, NaN, 9, 8, 7], [1, 2, 2, 3]),
  lines: ["training data", "unseen data"],
  points: i4([0, 10, 20]),
  runs: [["run a", ""]],
  unit: "nats",
  ...more,
});

test("what is known of a cell is found in every frame", () => {
  const find = finder(panel());
  assert.equal(find.value(2, 0, 0), 1);
  assert.ok(Number.isNaN(find.value(0, 0, 1)));
  assert.equal(find.agree(1, 0, 1), 1);
  assert.equal(find.seeds(0, 1), 3);
  assert.deepEqual([...find.values(1)], [1, 0]);
  assert.deepEqual([...find.curve(0, 1, 1)], [9, 8, 7]);
  assert.equal(find.at(0, 0, 1, 19), 0.25);
  assert.ok(Number.isNaN(find.at(0, 0, 1, -1)));
  assert.deepEqual(find.first(), [0, 0]);
  assert.deepEqual(finder(panel({ values: f4([NaN, NaN, NaN, 0], [2, 1, 2]) })).first(), [0, 1]);
  const bare = finder(panel({ agree: null, n: null, curves: null, points: null, lines: [], frames: null }));
  assert.equal(bare.agree(1, 0, 1), null);
  assert.equal(bare.seeds(0, 1), 1);
});

test("the numbers of a plane are its cells with a value, and their curves at the step", () => {
  const { columns, rows } = table(panel(), 0, 12);
  assert.deepEqual(columns, [
    ...["words", "words", "kind", "seeds that agree", "seeds", "training data", "unseen data", "run"],
  ]);
  assert.deepEqual(rows, [["only", "a", "confusion", 2, 3, 0.5, 0.25, "run a"]]);
  const numbers = table(panel({ kinds: [], agree: null, n: null, lines: [], runs: [] }), 1, 12);
  assert.deepEqual(numbers, {
    columns: ["words", "words", "nats"],
    rows: [
      ["only", "a", 1],
      ["only", "b", 0],
    ],
  });
});

test("text can be read on any colour", () => {
  assert.equal(contrast([0, 0, 0], [255, 255, 255]), 21);
  for (let r = 0; r < 256; r += 15)
    for (let g = 0; g < 256; g += 15)
      for (let b = 0; b < 256; b += 15) assert.ok(contrast([r, g, b], hex(readable([r, g, b]))) >= 4.5);
});

test("a number in a cell has at most three digits", () => {
  assert.deepEqual([0, 0.12345, 12, 1234, 12_345, 2_345_678, 0.00012345, -3.14159].map(short), [
    "0",
    "0.123",
    "12",
    "1.23K",
    "12.3K",
    "2.35M",
    "1.2e-4",
    "-3.14",
  ]);
});
