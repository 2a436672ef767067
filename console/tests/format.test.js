// Numbers, durations and times for people.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, bytes, duration } from "../app/format.js";

test("no rounded duration reaches the next unit", () => {
  for (const [ms, shown] of [
    [0, "0 ms"],
    [0.4, "0.40 ms"],
    [9.96, "10 ms"],
    [999.4, "999 ms"],
    [999.6, "1.00 s"],
    [9_996, "10.0 s"],
    [59_960, "1 min 0 s"],
    [119_600, "2 min 0 s"],
    [3_599_700, "1 h 0 min"],
    [7_260_000, "2 h 1 min"],
  ])
    assert.equal(duration(ms), shown, `${ms} ms`);
});

test("no rounded age or size reaches the next unit", () => {
  const before = (seconds) => ago(new Date(Date.now() - seconds * 1_000));
  assert.equal(before(59.9), "59 s ago");
  assert.equal(before(3_599), "59 min ago");
  assert.equal(before(86_399), "23 h ago");
  assert.equal(bytes(1_023), "1023 B");
  assert.equal(bytes(1_048_575), "1.0 MB");
});
