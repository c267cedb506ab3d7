// The pure part of strips: lanes, marks that do not lie on each other, counts and tables.

import assert from "node:assert/strict";
import { test } from "node:test";

import { finder, layout, radiusOf, swarm, table } from "../../explorer/film/js/panels/strip.js";
import { stepScale } from "../../explorer/film/js/timeline.js";

/** @param {number[]} values @param {number[]} shape @returns {any} */
const f4 = (values, shape) => Object.assign(new Float32Array(values), { shape });

test("rows and the lanes in them follow each other without lying on each other", () => {
  for (const [rows, groups, room] of /** @type {[number, number, number | null][]} */ ([
    [6, 1, null],
    [20, 2, null],
    [1, 2, null],
    [6, 2, 330],
    [20, 2, 330],
  ])) {
    const { height, box, lane, middle } = layout({ width: 900, left: 100, rows, groups, room });
    const middles = Array.from({ length: rows * groups }, (_, i) =>
      middle({ row: Math.floor(i / groups), group: i % groups }),
    );
    middles.slice(1).forEach((y, i) => assert.ok(y - middles[i] >= lane - 1e-9));
    assert.ok(middles[0] - lane / 2 >= box.top && middles[middles.length - 1] + lane / 2 <= box.bottom);
    if (room !== null) assert.ok(height <= Math.max(room, rows * 8 + 48) + 1);
  }
});

test("marks do not lie on each other while there is room, and never leave their lane", () => {
  const xs = Array.from({ length: 50 }, (_, i) => 100 + ((i * 37) % 50) * 4 + (i % 3));
  const { offs, isFree } = swarm([...xs, NaN], 3, 40);
  assert.ok(isFree);
  xs.forEach((x, i) => {
    assert.ok(Math.abs(offs[i]) + 3 <= 20);
    xs.slice(0, i).forEach((other, j) => assert.ok(Math.hypot(x - other, offs[i] - offs[j]) >= 6));
  });
  const crowd = swarm(Array(50).fill(7), 3, 40);
  assert.ok(!crowd.isFree && crowd.offs.every((off) => Math.abs(off) + 3 <= 20));
});

test("marks are as large as they can be without lying on each other", () => {
  assert.equal(radiusOf([[0, 100, 200]], 40), 4.5);
  assert.equal(radiusOf([Array(50).fill(0)], 40), 3);
  assert.equal(radiusOf([Array(50).fill(0)], 14), 2);
  const close = radiusOf([[0, 0, 0, 1, 1]], 40);
  assert.ok(close > 3 && close < 4.5);
});

/** @returns {any} */
const panel = () => ({
  ...{ kind: "strip", id: "one", title: "One", span: 12, gaps: [] },
  rows: ["units", "tens"],
  groups: ["streamed", "finite"],
  marks: f4([10, 20, NaN, 30, 30, 40, 5, NaN, NaN, 6, NaN, NaN], [2, 2, 3]),
  names: [
    ["seed 0", "seed 1", "seed 2"],
    ["seed 0", "", ""],
  ],
  median: f4([15, 30, 5, 6], [2, 2]),
  low: f4([10, 25, NaN, NaN], [2, 2]),
  high: f4([20, 35, NaN, NaN], [2, 2]),
});

test("marks are counted as the cursor reaches them", () => {
  const find = finder(panel());
  const units = { group: 0, row: 0 };
  assert.deepEqual(
    [0, 10, 19, 20, 99].map((step) => find.reached(units, step)),
    [0, 1, 1, 2, 2],
  );
  assert.equal(find.all(units), 3); // also the one that never comes
  assert.equal(find.all({ group: 1, row: 0 }), 1);
  assert.deepEqual(find.middle({ group: 0, row: 1 }), [30, 25, 35]);
});

test("the numbers of a strip are its marks and its medians, and whether they are reached", () => {
  const { columns, rows } = table(panel(), 20);
  assert.deepEqual(columns, ["row", "group", "what", "step", "reached"]);
  assert.deepEqual(rows[0], ["units", "streamed", "seed 0", 10, "yes"]);
  assert.deepEqual(rows[2], ["units", "streamed", "seed 2", NaN, "no"]);
  assert.deepEqual(rows[3], ["units", "streamed", "median", 15, "yes"]);
  assert.equal(rows.length, 3 + 3 + 1 + 3 + 3 + 3 + 1 + 3);
});

test("a logarithmic scale of steps has a place for step 0, and an inverse", () => {
  const { x, stepAt } = stepScale({ left: 0, right: 300 }, [0, 999], [], true);
  assert.deepEqual([x(0), Math.round(x(9)), Math.round(x(99)), Math.round(x(999))], [0, 100, 200, 300]);
  for (const step of [0, 1, 500]) assert.ok(Math.abs(stepAt(x(step)) - step) < 1e-9);
});
