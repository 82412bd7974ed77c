import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeStrip } from "e2e/lib/strip.ts";

// The same vector as in `crates/probe/src/strip.rs`.
const GOLDEN = "10100000000000000100000011000000010100100110000000000000000001000010011101010111";

function cells(text: string): boolean[] {
  return [...text].map((cell) => cell === "1");
}

test("the probe's golden strip is decoded", () => {
  assert.deepEqual(decodeStrip(cells(GOLDEN)), {
    frame: 0x8001,
    toggles: 3,
    applicationMs: 0.5,
    lateMs: 2,
    committedMs: 0x80001 / 10,
    sinceMs: 4.5,
  });
});

test("any single wrong cell outside the block is noticed", () => {
  for (let index = 0; index < 78; index++) {
    const wrong = cells(GOLDEN);
    wrong[index] = !wrong[index];
    assert.equal(decodeStrip(wrong), undefined, `cell ${index}`);
  }
});

test("a picture that is no strip is refused", () => {
  assert.equal(decodeStrip(Array.from({ length: 80 }, () => false)), undefined);
  assert.equal(decodeStrip([]), undefined);
});
