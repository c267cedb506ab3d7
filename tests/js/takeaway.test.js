import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { cell, csv, csvOfAll, csvSize } from "../../explorer/film/js/csv.js";
import { fileName } from "../../explorer/film/js/files.js";
import { actOf } from "../../explorer/film/js/keys.js";
import { advanced, drawnAt } from "../../explorer/film/js/motion.js";
import { flowed, wrapped } from "../../explorer/film/js/picture.js";
import { spoken } from "../../explorer/film/js/spoken.js";
import { around, magnification } from "../../explorer/film/js/stage.js";
import { beatOf } from "../../explorer/film/js/transport.js";

const FOLDER = new URL("../../explorer/film/js/", import.meta.url);

test("a cell is quoted where it must be, and never runs in a spreadsheet", () => {
  const cells = {
    "a,b": '"a,b"',
    'say "a"': '"say ""a"""',
    "a\nb": '"a\nb"',
    "=1+1": "'=1+1",
    "+": "'+",
    "-2.5": "-2.5",
  };
  for (const [text, wanted] of Object.entries(cells)) assert.equal(cell(text), wanted);
  assert.equal(cell('@x,"y"'), '"\'@x,""y"""');
  assert.equal(Math.fround(Number(cell(Math.fround(0.1)))), Math.fround(0.1)); // all digits of a 32-bit float
  assert.deepEqual([cell(NaN), cell(Infinity), cell(-3)], ["", "", "-3"]);
});

test("the numbers of all frames follow their step", () => {
  const table = (/** @type {number} */ frame) => ({ columns: ["curve", "step"], rows: [["a", frame]] });
  assert.equal(csv(table(3)), "curve,step\r\na,3\r\n");
  assert.equal(csvOfAll([10, 20], table).join(""), "step,curve,measured at step\r\n10,a,0\r\n20,a,1\r\n");
});

test("the size of numbers is reckoned from some of the rows", () => {
  const table = (/** @type {number} */ frame) => ({
    columns: ["cell", "value"],
    rows: [...Array(5000).keys()].map((i) => [`é${i}`, Math.sin(i + frame)]),
  });
  const steps = [0, 10, 20, 1000];
  const near = (/** @type {number} */ size, /** @type {string[]} */ text) =>
    assert.ok(Math.abs(size / new Blob(text).size - 1) < 0.05, String(size));
  near(csvSize(table(1)), [csv(table(1))]);
  near(csvSize(table(1), steps), csvOfAll(steps, table));
  assert.equal(csvSize({ columns: ["cell"], rows: [] }, steps), 0);
});

test("every kind of panel has its numbers", async () => {
  for (const name of readdirSync(new URL("panels/", FOLDER))) {
    const kind = await import(new URL(`panels/${name}`, FOLDER).href);
    assert.equal(typeof kind.table, "function", name);
    assert.ok(Object.hasOwn(kind.default.prototype, "table"), name);
  }
});

test("a file is named after the place, the panel and the step", () => {
  assert.equal(fileName("A <film> & more", "losses", 980), "a-film-more-losses-step-000980");
  assert.equal(fileName("", "losses", null), "film-losses-all-steps");
});

test("keys of the stage act on the stage only, capitals too, and a held key acts once", () => {
  const page = { isOnStage: false, isAsked: false, isRepeated: false };
  for (const key of ["f", "F", "?", " ", "ArrowLeft", "Home"]) assert.ok(actOf(key, page), key);
  for (const key of ["n", "p", "c", "s", "v", "e", "x", "constructor"]) assert.equal(actOf(key, page), undefined, key);
  for (const key of ["n", "P", "C", "s"]) assert.ok(actOf(key, { ...page, isOnStage: true }), key);
  const asked = /** @type {string[]} */ ([]);
  const player = /** @type {any} */ ({ onAsk: (/** @type {string} */ what) => asked.push(what) });
  for (const key of ["v", "V", "e", "E"]) actOf(key, { ...page, isAsked: true })?.(player);
  actOf("v", { ...page, isAsked: true, isRepeated: true })?.(player);
  assert.deepEqual(asked, ["next view", "previous view", "next example", "previous example"]);
});

test("a whole film takes twelve seconds, and for less motion nothing is drawn between snapshots", () => {
  assert.equal(advanced(0, 6, 1, 60), 30);
  assert.equal(advanced(50, 6, 4, 60), 59);
  assert.deepEqual([drawnAt(2.75, false), drawnAt(2.75, true)], [2.75, 2]);
});

test("the words of a frame are its values, or the largest of many", () => {
  const rows = [...Array(9).keys()].map((i) => [`p${i}`, i]);
  assert.equal(spoken({ columns: ["curve", "nats"], rows: rows.slice(1, 3) }), "nats: p1 1.000, p2 2.000");
  assert.equal(spoken({ columns: ["point", "x"], rows }), "largest x 8.000 at p8");
  assert.equal(spoken({ columns: [], rows: [] }), "no values");
});

test("titles and legends are wrapped, not cut", () => {
  assert.deepEqual(
    wrapped("one two three", 7, (text) => text.length),
    ["one two", "three"],
  );
  assert.deepEqual(
    flowed([60, 60, 60], 150).map(({ line }) => line),
    [0, 0, 1],
  );
});

test("a stage is magnified with the screen, and its panels go around", () => {
  assert.deepEqual([magnification(1920, 1080), magnification(3840, 2160), magnification(390, 844)], [2, 4, 1]);
  assert.deepEqual([around(2, 1, 3), around(0, -1, 3)], [0, 2]);
});

test("a beat is a headline and a scene with one panel", () => {
  const beat = beatOf("http://localhost:8501/x/heads?run=a&step=3", "patterns");
  assert.equal(beat, "## Headline\n\n```scene\nheads?run=a&step=3\npanel: patterns\n```\n");
});

test("the library that draws SVG is the one that is pinned", () => {
  const text = (/** @type {string} */ path) => readFileSync(new URL(path, FOLDER), "utf8");
  const installed = "../../../node_modules/svgcanvas/";
  assert.equal(text("vendor/svgcanvas.js"), text(`${installed}dist/svgcanvas.esm.js`));
  assert.equal(text("vendor/svgcanvas.license.txt"), text(`${installed}LICENSE`));
});
