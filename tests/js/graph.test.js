// The pure part of graphs: nodes in rows, edges that pass no node, the numbers and the words of a frame.

import assert from "node:assert/strict";
import { test } from "node:test";

import { counted, edgesOf, layout, table } from "../../explorer/film/js/panels/graph.js";

const TWO_LAYERS = {
  rows: [0, 1, 1, 1, 1, 2, 2, 2, 2, 3],
  senders: [0, 0, 0, 0, 0, 1, 4, 0, 5, 8],
  receivers: [1, 4, 5, 8, 7, 8, 5, 9, 9, 9],
};

/** @returns {any} */
const graph = () => ({
  nodes: ["tokens", "L0H0", "answer"],
  senders: [0, 0, 1],
  receivers: [1, 2, 2],
  rows: [0, 1, 2],
  values: Object.assign(new Float32Array([0.25, -0.5, 1, NaN, NaN, NaN]), { shape: [2, 3] }),
  kept: Object.assign(new Float32Array([1, 0, 1, NaN, NaN, NaN]), { shape: [2, 3] }),
  unit: "share",
  empty: "nothing here",
});

test("nodes stand in rows without overlap, within the panel and the room", () => {
  for (const [width, room, least] of /** @type {[number, number | null, number][]} */ ([
    [300, null, 0],
    [1400, null, 0],
    [1860, 900, 28],
    [700, 260, 0],
  ])) {
    const { nodes, height } = layout({ width, room, least, ...TWO_LAYERS });
    for (const { x, y, w, h } of nodes) assert.ok(x >= 0 && x + w <= width && y >= 0 && y + h <= height);
    assert.ok(nodes[1].x + nodes[1].w < nodes[2].x);
    assert.equal(nodes[1].y, nodes[4].y);
    assert.ok(nodes[0].y + nodes[0].h < nodes[1].y && nodes[5].y + nodes[5].h < nodes[9].y);
    if (room !== null) assert.equal(height, room);
  }
});

test("an edge leads from its sender to its receiver, and past the nodes between where there is room", () => {
  const { nodes, paths } = layout({ width: 1400, ...TWO_LAYERS });
  paths.forEach(([x0, y0, x1, y1, x2, y2, x3, y3], edge) => {
    const [sender, receiver] = [nodes[TWO_LAYERS.senders[edge]], nodes[TWO_LAYERS.receivers[edge]]];
    assert.ok(x0 > sender.x && x0 < sender.x + sender.w && y0 === sender.y + sender.h);
    assert.ok(x3 > receiver.x && x3 < receiver.x + receiver.w && y3 === receiver.y);
    for (let t = 0; t <= 1; t += 1 / 24) {
      const u = 1 - t;
      const x = u ** 3 * x0 + 3 * u * u * t * x1 + 3 * u * t * t * x2 + t ** 3 * x3;
      const y = u ** 3 * y0 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t ** 3 * y3;
      for (const node of nodes) {
        if (node === sender || node === receiver) continue;
        assert.ok(!(x > node.x && x < node.x + node.w && y > node.y && y < node.y + node.h), `edge ${edge}`);
      }
    }
  });
});

test("edges of one node leave it side by side, in the order of where they lead", () => {
  const { paths } = layout({ width: 1400, rows: [0, 1, 1, 1], senders: [0, 0, 0], receivers: [3, 1, 2] });
  const [right, left, middle] = paths.map(([x]) => x);
  assert.ok(left < middle && middle < right);
});

test("the edges of a frame are those with a value, the largest first", () => {
  assert.deepEqual(edgesOf(graph(), 0), [
    { edge: 2, value: 1, isKept: true },
    { edge: 1, value: -0.5, isKept: false },
    { edge: 0, value: 0.25, isKept: true },
  ]);
  assert.deepEqual(edgesOf(graph(), 1), []);
});

test("a frame has a row for each edge, and says how many are in the circuit", () => {
  assert.deepEqual(table(graph(), 0), {
    columns: ["sender", "receiver", "share", "in the circuit"],
    rows: [
      ["tokens", "L0H0", 0.25, "yes"],
      ["tokens", "answer", -0.5, "no"],
      ["L0H0", "answer", 1, "yes"],
    ],
  });
  assert.deepEqual(table(graph(), 1).rows[0], ["tokens", "L0H0", NaN, ""]);
  assert.equal(counted(graph(), 0), "2 of 3 edges in the circuit");
  assert.equal(counted(graph(), 1), "nothing here");
});
