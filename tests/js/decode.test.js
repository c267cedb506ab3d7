import assert from "node:assert/strict";
import { test } from "node:test";

import { decode } from "../../explorer/film/js/decode.js";

/** @param {unknown} thing */
const header = (thing) => {
  const text = new TextEncoder().encode(JSON.stringify(thing));
  const padded = new Uint8Array(Math.ceil(text.length / 4) * 4).fill(32);
  padded.set(text);
  return [new Uint8Array(new Uint32Array([padded.length]).buffer), padded];
};

test("a message is read wherever it lies in memory", () => {
  const values = new Float32Array([0.5, NaN, 3e-6]);
  const places = new Int32Array([7, -1]);
  const film = {
    steps: [0, 5],
    panels: [
      {
        kind: "any",
        values: { at: 0, dtype: "f4", shape: [1, 3] },
        more: { places: { at: 12, dtype: "i4", shape: [2] }, none: null },
      },
    ],
  };
  const parts = [
    ...header({ start: 5, move: 2, switches: [["losses", "log", true]] }),
    ...header(film),
    new Uint8Array(values.buffer),
    new Uint8Array(places.buffer),
  ];
  const whole = new Uint8Array(parts.reduce((n, part) => n + part.length, 3));
  let at = 3; // not aligned
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  const message = decode(whole.subarray(3));
  assert.deepEqual([message.start, message.move, message.switches], [5, 2, [["losses", "log", true]]]);
  assert.deepEqual(message.film.steps, [0, 5]);
  const panel = /** @type {any} */ (message.film.panels[0]);
  assert.deepEqual([...panel.values], [...values]);
  assert.deepEqual(panel.values.shape, [1, 3]);
  assert.deepEqual([...panel.more.places], [7, -1]);
  assert.equal(panel.more.none, null);
});
