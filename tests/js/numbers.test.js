import assert from "node:assert/strict";
import { test } from "node:test";

import { brief, count, exact, fitting, longest, tick } from "../../explorer/film/js/numbers.js";

test("numbers are formatted for counts, legends and axes", () => {
  assert.equal(count(1234567), "1,234,567");
  assert.deepEqual([0, 0.00012, 1.5, 2345.6, NaN].map(brief), ["0.000", "1.2e-4", "1.500", "2346", "–"]);
  assert.deepEqual([0, 0.001, 0.25, 1500].map(tick), ["0", "1.0e-3", "0.25", "1500"]);
});

test("a value under the pointer has all the digits of a 32-bit float, however small it is", () => {
  assert.equal(exact(Math.fround(3.312345e-6)), "0.000003312345");
  assert.equal(exact(Math.fround(1 / 3)), "0.3333333");
  assert.equal(exact(Math.fround(1.234567e-12)), "1.234567e-12");
  assert.equal(exact(NaN), "no value");
});

test("labels are cut to their width", () => {
  assert.equal(fitting("hundreds", 100), "hundreds");
  assert.equal(fitting("hundreds", 30), "hund…");
  assert.equal(fitting("hundreds", 60, 9), "hundr…"); // wider letters
  assert.equal(longest(["a", "abc"]), 3);
  assert.equal(longest([]), 0);
});
