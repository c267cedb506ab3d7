import assert from "node:assert/strict";
import { test } from "node:test";

import { withSwitches } from "../../explorer/pages/address.js";

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
