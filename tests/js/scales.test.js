import assert from "node:assert/strict";
import { test } from "node:test";

import { before, clamp, decades, extent, nearest, ticks } from "../../explorer/film/js/scales.js";

test("the last entry that is not above a value", () => {
  const steps = [0, 5, 20];
  assert.deepEqual(
    [-1, 0, 4, 5, 19, 20, 99].map((x) => before(steps, x)),
    [0, 0, 0, 1, 1, 2, 2],
  );
  assert.equal(before([], 3), 0);
});

test("the nearest entry, the earlier of two that are as near", () => {
  assert.deepEqual(
    [-1, 2, 2.5, 3, 12, 13, 99].map((x) => nearest([0, 5, 20], x)),
    [0, 0, 0, 1, 1, 2, 2],
  );
});

test("ticks are round, within the ends, and about as many as wanted", () => {
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
  assert.deepEqual(ticks(-3, 12, 4), [0, 5, 10]);
  for (const [low, high] of [
    [0, 3e-7],
    [2, 2.001],
    [-1e6, 1e6],
  ]) {
    const found = ticks(low, high, 5);
    assert.ok(found.length >= 2 && found.length <= 11, `${found}`);
    assert.ok(found.every((value) => value >= low - 1e-12 && value <= high * (1 + 1e-9)));
  }
  assert.deepEqual(ticks(1, 1, 5), [1]);
});

test("decades are powers of ten between the ends, not too many", () => {
  assert.deepEqual(decades(0.001, 20), [0.001, 0.01, 0.1, 1, 10]);
  assert.ok(decades(1e-30, 1).length <= 8);
});

test("extents leave out what is not finite", () => {
  assert.deepEqual(extent([3, NaN, -1, Infinity]), [-1, 3]);
  assert.deepEqual(extent([3], [0, 0]), [0, 3]);
  assert.deepEqual(extent([]), [Infinity, -Infinity]);
  assert.equal(clamp(7, 0, 5), 5);
});
