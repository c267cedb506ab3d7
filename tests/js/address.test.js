import assert from "node:assert/strict";
import { test } from "node:test";

import { isNewEntry, withEmbedding, withSwitches } from "../../explorer/pages/address.js";

test("the player's switches are at the end of a query, and replace those that are there", () => {
  const query = "?run=a&example=1%2B2&show=heads";
  const set = withSwitches(query, "losses.log patterns.enlarged:L1H0");
  assert.equal(set, `${query}&player=losses.log+patterns.enlarged:L1H0`);
  assert.equal(withSwitches(set, "losses.hidden:a%20b,c"), `${query}&player=losses.hidden:a%2520b,c`);
  assert.equal(withSwitches(set, ""), query);
});

test("what is written is read as the same switches", () => {
  const switches = "losses.hidden:%C3%A9%26,100%25 losses.smooth:off";
  assert.equal(new URLSearchParams(withSwitches("?run=a", switches)).get("player"), switches);
});

test("an empty query stays empty", () => {
  assert.equal(withSwitches("", ""), "");
  assert.equal(withSwitches("?player=losses.log", ""), "");
});

test("another run is a new entry, and nothing else is", () => {
  assert.equal(isNewEntry("?run=a&step=1", "?run=b&step=9", false), true);
  assert.equal(isNewEntry("?run=a&step=1", "?run=a&step=9&show=heads", false), false);
  assert.equal(isNewEntry("", "?run=a", false), false); // Streamlit has added the entry of the page
  assert.equal(isNewEntry("?run=nope", "?run=a", true), false); // a link to a run that does not exist
});

test("Streamlit's own parameters stay in the address", () => {
  assert.equal(
    withEmbedding("?run=a", "?embed=true&run=b&embed_options=dark_theme"),
    "?run=a&embed=true&embed_options=dark_theme",
  );
  assert.equal(withEmbedding("", "?embed=true"), "?embed=true");
  assert.equal(withEmbedding("?run=a", "?run=b"), "?run=a");
});
