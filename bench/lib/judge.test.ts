import assert from "node:assert/strict";
import { test } from "node:test";

import { judge, legs, ratios } from "../latency/judge.ts";
import { pair } from "../latency/measure.ts";
import type { Observation } from "../latency/measure.ts";
import type { Press, Shown } from "./screen.ts";

/** A frame that was committed 20 ms before it was shown. */
function frame(atMs: number, number: number, toggles: number, more: Partial<Shown> = {}): Shown {
  const committedMs = (atMs - 20) % (2 ** 20 / 10);
  return { atMs, frame: number, toggles, applicationMs: 8, lateMs: 0, committedMs, sinceMs: 0, ...more };
}

function press(atMs: number): Press {
  return { atMs };
}

test("a press is answered by the first frame with one toggle more, wrapping", () => {
  const shown = [frame(0, 1, 255), frame(17, 2, 255), frame(33, 3, 0), frame(50, 4, 0), frame(300, 5, 0), frame(340, 6, 1)];
  const answers = pair([press(5), press(305)], shown);
  assert.deepEqual(answers.map((answer) => answer.shown.frame), [3, 6]);
});

test("a press that nothing answered before the next one is not paired", () => {
  assert.equal(pair([press(5), press(20)], [frame(0, 1, 0), frame(30, 2, 1)]).length, 1);
  assert.equal(pair([press(5)], [frame(0, 1, 0), frame(3000, 2, 1)]).length, 0);
});

test("legs add up to the whole, also across the wrap of the commit time", () => {
  for (const atMs of [500, 2 ** 20 / 10 + 10]) {
    const answer = { press: press(atMs - 33), shown: frame(atMs, 2, 1) };
    const parts = legs(answer);
    assert.ok(Math.abs(parts.picture - 20) < 1e-6, `${parts.picture}`);
    assert.ok(Math.abs(parts.input - 5) < 1e-6, `${parts.input}`);
    assert.ok(Math.abs(parts.input + parts.application + parts.picture - 33) < 1e-6);
  }
});

function observation(product: string, latencyMs: number): Observation {
  const presses = [press(1000), press(2000), press(3000)];
  const shown = presses.flatMap((one, index) => [
    frame(one.atMs - 10, index * 2, index),
    frame(one.atMs + latencyMs, index * 2 + 1, index + 1),
  ]);
  return {
    product,
    display: "x11",
    format: { width: 1280, height: 720, framesPerSecond: 60 },
    answers: pair(presses, shown),
    lost: 0,
    shown,
    seconds: 3,
    cpuS: new Map([["server", 1.2], ["Xvfb", 0.3]]),
    displayNames: ["Xvfb"],
    browserCpuS: 0.6,
    memoryBytes: new Map([["server", 2 ** 20]]),
    bytes: 3e6,
    bytesBy: "test",
    loadBefore: 0,
    loadAfter: 0,
    ownFigures: {},
  };
}

test("rounds are judged together, and ratios are over the peer's better mode", () => {
  const run = judge([observation("kite", 20), observation("kite", 20)]);
  assert.deepEqual([run.inputs, run.median_ms, run.fps, run.server_cpu, run.display_cpu, run.mbit_s], [6, 20, 2, 0.5, 0.1, 8]);
  assert.equal(run.starved, false);
  const peers = [judge([observation("peer-a", 80)]), judge([observation("peer-b", 40)])];
  const over = ratios(run, peers);
  assert.deepEqual([over?.peer, over?.median, over?.server_cpu, over?.fps], ["peer-b", 0.5, 1, 1]);
  assert.equal(ratios(run, []), undefined);
});
