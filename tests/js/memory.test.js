import assert from "node:assert/strict";
import { test } from "node:test";

import { declare, get, newMemory, set, takeUp } from "../../explorer/film/js/memory.js";

const shown = () => {
  const memory = newMemory();
  declare(memory, "losses", "log", false);
  declare(memory, "losses", "smooth", true);
  declare(memory, "losses", "hidden", [], ["units", "tens", "copy 1", "a,b:c.d"]);
  declare(memory, "patterns", "rescale", false);
  declare(memory, "patterns", "enlarged", null);
  declare(memory, "progress", "log", true);
  return memory;
};

test("switches with their initial values are not written", () => {
  const memory = shown();
  assert.equal(memory.switchesText(), "");
  set(memory, "losses", "log", true);
  set(memory, "losses", "log", false);
  assert.equal(memory.switchesText(), "");
});

test("changed switches are written in order", () => {
  const memory = shown();
  set(memory, "patterns", "enlarged", "L1H0");
  set(memory, "patterns", "rescale", true);
  set(memory, "losses", "smooth", false);
  set(memory, "losses", "log", true);
  set(memory, "losses", "hidden", ["units", "tens"]);
  set(memory, "progress", "log", false);
  assert.equal(
    memory.switchesText(),
    "losses.hidden:units,tens losses.log losses.smooth:off patterns.enlarged:L1H0 patterns.rescale progress.log:off",
  );
});

test("names are written so that a link can be read again", () => {
  const memory = shown();
  set(memory, "losses", "hidden", ["copy 1", "a,b:c.d", "gone since"]);
  assert.equal(memory.switchesText(), "losses.hidden:copy%201,a%2Cb%3Ac.d");
});

test("only switches of panels on screen are written, and the values of others are kept", () => {
  const memory = shown();
  set(memory, "losses", "log", true);
  memory.declared.clear();
  assert.equal(memory.switchesText(), "");
  declare(memory, "losses", "log", false);
  assert.equal(memory.switchesText(), "losses.log");
});

test("a link sets the switches that it names and resets all others", () => {
  const memory = shown();
  set(memory, "losses", "log", true);
  let told = 0;
  memory.onSwitches = () => (told += 1);
  takeUp(memory, [
    ["losses", "smooth", false],
    ["patterns", "enlarged", "L0H1"],
  ]);
  assert.equal(get(memory, "losses", "log"), false);
  assert.equal(get(memory, "losses", "smooth"), false);
  assert.equal(get(memory, "patterns", "enlarged"), "L0H1");
  assert.equal(told, 0); // nobody pressed anything
  set(memory, "losses", "log", true);
  assert.equal(told, 1);
});

test("a link cannot reach the prototype of objects", () => {
  const memory = shown();
  takeUp(memory, [
    ["__proto__", "hidden", "x"],
    ["constructor", "prototype", "x"],
    ["losses", "__proto__", "x"],
  ]);
  declare(memory, "__proto__", "log", false);
  set(memory, "__proto__", "log", true);
  const plain = /** @type {Record<string, unknown>} */ ({});
  assert.deepEqual([plain.hidden, plain.log], [undefined, undefined]);
  assert.equal(get(memory, "losses", "log"), false);
  assert.equal(memory.switchesText(), "__proto__.log");
});
