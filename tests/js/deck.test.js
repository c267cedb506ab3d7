import assert from "node:assert/strict";
import { test } from "node:test";

import { lastBefore, shown } from "../../explorer/film/js/deck.js";

const film = /** @type {any} */ ({
  steps: [0, 10, 20],
  look: ["one", "two", "three"],
  panels: [
    { id: "tokens", kind: "tokens", span: 12 },
    { id: "losses", kind: "curves", span: 6 },
    { id: "norms", kind: "curves", span: 6 },
    { id: "patterns", kind: "heatmaps", span: 8 },
  ],
});
const isTimeline = (/** @type {string} */ kind) => kind === "curves";

test("a slide shows its panel over the whole width, and below it the first timeline, slim", () => {
  const { steps, look, panels } = shown(film, "patterns", isTimeline);
  assert.deepEqual([steps, look], [film.steps, []]);
  assert.deepEqual(
    panels.map(({ id, span, slim }) => [id, span, Boolean(slim)]),
    [
      ["patterns", 12, false],
      ["losses", 12, true],
    ],
  );
  assert.equal(film.panels[3].span, 8); // the film itself is left as it is
});

test("a timeline that is large needs no slim one", () => {
  assert.deepEqual(
    shown(film, "norms", isTimeline).panels.map(({ id }) => id),
    ["norms"],
  );
});

test("a veil covers what is after the last snapshot up to its step", () => {
  const veils = [0, 9, 10, 19, 20, 1000];
  assert.deepEqual(
    veils.map((veil) => lastBefore(film.steps, veil)),
    [0, 0, 1, 1, 2, 2],
  );
  assert.equal(lastBefore([10, 20], 5), 0); // something is always shown
});
