import assert from "node:assert/strict";
import { test } from "node:test";

import { css, fromLab, hex, joinedRamps, ramp, toLab } from "../../explorer/film/js/colour.js";

/** @param {number} packed @returns {[number, number, number]} */
const unpacked = (packed) => [packed & 255, (packed >> 8) & 255, (packed >> 16) & 255];

test("a colour is the same after conversion to OKLab and back", () => {
  for (const text of ["#000000", "#ffffff", "#b3124f", "#0064a8"]) {
    assert.deepEqual(fromLab(toLab(hex(text))), hex(text));
  }
  assert.ok(Math.abs(toLab([255, 255, 255])[0] - 1) < 1e-6);
});

test("a ramp begins and ends at its stops, and its lightness changes evenly", () => {
  const found = ramp(["#ffffff", "#9ecae8", "#2f7fc1", "#08306b"].map(hex));
  assert.equal(found.length, 256);
  assert.deepEqual(unpacked(found[0]), [255, 255, 255]);
  assert.deepEqual(unpacked(found[255]), hex("#08306b"));
  const lightness = [...found].map((packed) => toLab(unpacked(packed))[0]);
  const even = (lightness[0] - lightness[255]) / 255;
  lightness.slice(1).forEach((value, i) => assert.ok(Math.abs(lightness[i] - value - even) < 0.006));
});

test("two ramps meet at zero", () => {
  const [down, up] = [ramp([hex("#ffffff"), hex("#8f3600")]), ramp([hex("#ffffff"), hex("#0d4f9e")])];
  const both = joinedRamps(down, up);
  assert.deepEqual([both[0], both[255]], [down[255], up[255]]);
  assert.ok(toLab(unpacked(both[127]))[0] > 0.98 && toLab(unpacked(both[128]))[0] > 0.98);
});

test("a packed colour is written as CSS", () => {
  const [first] = ramp([hex("#0a64ff"), hex("#ffffff")]);
  assert.equal(css(first), "rgb(10, 100, 255)");
});
