import assert from "node:assert/strict";
import { test } from "node:test";

import { bytesOf, dedupRatio, lastLine, ratios, rsyncTraffic, table, timeOf } from "../content/figures.ts";
import type { Run } from "../content/figures.ts";

function run(round: number, product: string, step: string, wallS: number, more: Partial<Run> = {}): Run {
  return { round, product, step, wall_s: wallS, cpu_s: 1, sent_bytes: null, stored_bytes: null, load: 0, ...more };
}

test("sizes are powers of 1024", () => {
  assert.deepEqual(["4G", "256M", "1K", "7"].map(bytesOf), [2 ** 32, 2 ** 28, 1024, 7]);
  for (const wrong of ["", "G", "1.5G", "-1", "4 G"]) assert.throws(() => bytesOf(wrong), /is no size/);
});

test("times are read from among other output", () => {
  const { wallS, cpuS } = timeOf("a warning\ntook 1.500 2.250 0.125\n");
  assert.deepEqual([wallS, cpuS], [1.5, 2.375]);
  assert.throws(() => timeOf("nothing"), /no time/);
});

test("rsync's traffic is read with its separators", () => {
  const printed = "Number of files: 3\n\nTotal bytes sent: 3,385,012\nTotal bytes received: 431\n\nsent 3 bytes";
  assert.deepEqual(rsyncTraffic(printed), { sent: 3_385_012, received: 431 });
  assert.throws(() => rsyncTraffic("Total bytes sent: 1"), /received/);
});

test("the last line is the result", () => {
  assert.deepEqual(lastLine('10 %\n20 %\n{"release": "r"}\n\n'), { release: "r" });
  assert.throws(() => lastLine("done\n"), /not JSON: done/);
});

test("ratios are medians of what happened in the same round", () => {
  const runs = [
    ...[2, 4, 30].map((wallS, index) => run(index + 1, "kite", "push", wallS)),
    ...[1, 8, 10].map((wallS, index) => run(index + 1, "rsync", "push", wallS)),
    run(1, "kite", "repush", 1, { sent_bytes: 150 }),
  ];
  const found = ratios(runs, 100);
  // 2, 0.5 and 3.
  assert.equal(found["push_vs_rsync"], 2);
  assert.equal(found["sent_vs_difference"], 1.5);
  assert.equal(found["push_vs_casync"], null, "casync did not run");
  assert.equal(found["repush_vs_rsync"], null);
});

test("the store's growth is that of both pushes, not of what lies beside it", () => {
  const runs = [
    run(1, "kite", "push", 1, { stored_bytes: 60 }),
    run(1, "kite", "sync", 1),
    run(1, "kite", "repush", 1, { stored_bytes: 40 }),
    run(1, "kite", "real_push", 1, { stored_bytes: 1000 }),
    run(2, "kite", "push", 1, { stored_bytes: 1000 }),
  ];
  assert.equal(dedupRatio(runs, "kite", [100, 100]), 2);
  assert.equal(dedupRatio(runs, "rsync", [100, 100]), null);
});

test("the table has a line a step and product", () => {
  const printed = table([run(1, "kite", "push", 2, { sent_bytes: 1e6 }), run(2, "kite", "push", 4), run(1, "rsync", "push", 1)]);
  const lines = printed.trimEnd().split("\n");
  assert.equal(lines.length, 3);
  assert.match(lines[1] ?? "", /^push +kite +2 +1 +1 +-$/);
});
