import assert from "node:assert/strict";
import { test } from "node:test";

import { isPlayers } from "../../explorer/film/js/keys.js";

/** @param {string} tag @param {{ type?: string, role?: string, inside?: string }} [about] */
const target = (tag, { type, role, inside } = {}) => ({
  tagName: tag,
  type,
  getAttribute: (/** @type {string} */ name) => (name === "role" ? role : null),
  closest: (/** @type {string} */ selectors) => (inside && selectors.includes(inside) ? {} : null),
});

const range = /** @type {any} */ (target("INPUT", { type: "range" }));

test("the player keeps its keys after a click on a control", () => {
  for (const one of [target("BODY"), target("BUTTON"), target("INPUT", { type: "radio" }), range]) {
    assert.ok(isPlayers(one, "ArrowLeft", false, range));
  }
});

test("texts, tables, lists and other sliders keep their keys", () => {
  const others = [
    target("INPUT", { type: "text" }),
    target("TEXTAREA"),
    { ...target("DIV"), isContentEditable: true },
    target("CANVAS", { inside: "[data-testid=stDataFrame]" }),
    target("TD", { role: "gridcell", inside: "[role=grid]" }),
    target("LI", { inside: "[role=listbox]" }),
    target("DIV", { role: "slider" }),
    target("INPUT", { type: "range" }),
  ];
  for (const one of others) assert.ok(!isPlayers(one, "ArrowLeft", false, range), one.tagName);
});

test("a control that got the focus by keyboard keeps its keys, but Space on the player's slider plays", () => {
  assert.ok(!isPlayers(target("BUTTON"), " ", true, range));
  assert.ok(!isPlayers(target("DIV", { role: "tab" }), "ArrowRight", true, range));
  assert.ok(!isPlayers(range, "ArrowRight", true, range));
  assert.ok(isPlayers(range, " ", true, range));
  assert.ok(isPlayers(target("DIV"), "ArrowRight", true, range));
});
