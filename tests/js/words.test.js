import assert from "node:assert/strict";
import test from "node:test";

import { split } from "../../explorer/film/js/words.js";

const glossary = { head: "a head", heads: "a head", "attention pattern": "a pattern", attention: "attention" };

test("the longest word is found once, whole and in any case, and nothing of the text is lost", () => {
  const text = "Attention pattern of heads: head (1), headache";
  const parts = split(text, glossary);
  assert.deepEqual(
    parts.filter(({ meaning }) => meaning),
    [
      { text: "Attention pattern", meaning: "a pattern" },
      { text: "heads", meaning: "a head" },
    ],
  );
  assert.equal(parts.map((part) => part.text).join(""), text);
});

test("without words a text is one part", () => {
  assert.deepEqual(split("a head", {}), [{ text: "a head", meaning: null }]);
  assert.deepEqual(split("", glossary), []);
});
