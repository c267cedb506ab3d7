// Values that are known within an interval.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ends, wash, within } from "../../explorer/film/js/interval.js";

/** @param {number[]} values @returns {any} */
const f4 = (values) => Object.assign(new Float32Array(values), { shape: [values.length] });
const drawn = { steps: f4([0, 1, 2, 3]), values: f4([1, 2, NaN, 4]) };

test("an interval has two ends, and a value without one is its own end", () => {
  assert.deepEqual(ends(drawn), [drawn.values]);
  const [low, high] = ends({ ...drawn, interval: f4([0.5, 0.25, 1, 0]) });
  assert.deepEqual(
    [low, high].map((end) => [...end]),
    [
      [0.5, 1.75, NaN, 4],
      [1.5, 2.25, NaN, 4],
    ],
  );
});

test("a value is written with two digits of its interval", () => {
  assert.equal(within(1.25, 0.1234), "1.25 ± 0.12");
  assert.equal(within(1.25), "1.25");
  assert.equal(within(NaN, 0.1), "no value");
});

test("a band goes along the upper ends and back along the lower ones, and a gap ends it", () => {
  /** @type {string[]} */
  const calls = [];
  /** @type {any} */
  const context = {
    beginPath: () => calls.push("begin"),
    lineTo: (/** @type {number} */ x, /** @type {number} */ y) => calls.push(`${x},${y}`),
    fill: () => calls.push("fill"),
  };
  const same = (/** @type {number} */ value) => value;
  wash(context, { ...drawn, interval: f4([0.5, 0.5, 0.5, 0.5]) }, same, same);
  assert.deepEqual(calls.join(" "), "begin 0,1.5 1,2.5 1,1.5 0,0.5 fill begin 3,4.5 3,3.5 fill");
  assert.equal(context.globalAlpha, 1);
});
