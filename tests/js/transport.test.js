import assert from "node:assert/strict";
import { test } from "node:test";

import { linkTo } from "../../explorer/film/js/transport.js";

test("a link has the step on screen, and everything else as the address has it", () => {
  const href = "http://localhost/overview?run=a&step=20&example=1%2B2,+3&player=losses.hidden:a%2520b#end";
  assert.equal(linkTo(href, 30), href.replace("step=20", "step=30"));
  assert.equal(linkTo("http://localhost/?run=a&steps=5", 0), "http://localhost/?run=a&steps=5&step=0");
  assert.equal(linkTo("http://localhost/", 7), "http://localhost/?step=7");
});
