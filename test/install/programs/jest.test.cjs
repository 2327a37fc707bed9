/* global test, expect */
const answer = require("./answer.cjs");

test("the package works under Jest", async () => {
  expect(await answer(require("inhouse"))).toMatch(/Paris/);
  expect(() => require("inhouse").readHeader).not.toThrow();
}, 60_000);
