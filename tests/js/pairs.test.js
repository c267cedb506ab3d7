// The pure part of maps of pairs of snapshots: the square, the scale on which all steps have equal room, the table.

import assert from "node:assert/strict";
import { test } from "node:test";

import { equalScale, layout, table } from "../../explorer/film/js/panels/pairs.js";

test("the map is a square that fits the panel and the room", () => {
  for (const [width, room] of /** @type {[number, number | null][]} */ ([
    [360, null],
    [700, null],
    [1860, null],
    [1860, 900],
    [900, 300],
  ])) {
    for (const type of [13, 28]) {
      const { box, height, cell } = layout({ width, left: 72, cells: 60, type, room });
      assert.equal(box.right - box.left, box.bottom - box.top);
      assert.ok(box.right <= width && height - box.bottom >= 12 + 2 * type); // the end of the cursor, and two lines
      assert.ok(Math.abs(cell * 60 - (box.right - box.left)) < 1e-9);
      if (room !== null) assert.ok(height <= room);
    }
  }
});

test("every step has a cell of one size, and what lies in it belongs to the step", () => {
  const steps = [0, 1, 10, 1000];
  const { x, stepAt } = equalScale({ left: 100, right: 180 }, steps);
  assert.deepEqual(
    steps.map((step) => x(step)),
    [110, 130, 150, 170],
  );
  assert.equal(x(5.5), 140); // between two snapshots
  assert.equal(x(-5), 110);
  assert.equal(x(5000), 170);
  steps.forEach((step) => assert.equal(stepAt(x(step)), step));
  assert.equal(stepAt(100), 0);
  assert.equal(stepAt(180), 1000);
});

test("a single snapshot has the whole map", () => {
  const { x, stepAt } = equalScale({ left: 0, right: 50 }, [7]);
  assert.equal(x(7), 25);
  assert.equal(stepAt(40), 7);
});

test("the numbers of a frame are those of its column and of its row", () => {
  const values = Object.assign(new Float32Array([1, 2, 3, 4]), { shape: [2, 2] });
  const panel = /** @type {any} */ ({ values, row_axis: "all else from step", column_axis: "L0H0 from step" });
  assert.deepEqual(table(panel, [0, 5], 1), {
    columns: ["step", "all else from step there", "L0H0 from step there"],
    rows: [
      [0, 2, 3],
      [5, 4, 4],
    ],
  });
});
