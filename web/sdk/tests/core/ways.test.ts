import { describe, expect, test } from "vitest";
import { APART_MS, choose, MESSAGES, Measurement } from "../../src/core/ways.js";

/** Sends all messages; `tookMs` says of each when it is back, `null` for never. */
function measured(tookMs: (number: number) => number | null): { measurement: Measurement; endMs: number } {
  const measurement = new Measurement();
  const back: { number: number; atMs: number }[] = [];
  let endMs = 0;
  for (let sent = 0; sent < MESSAGES; sent += 1) {
    const sentMs = sent * APART_MS;
    expect(measurement.isSending).toBe(true);
    const number = measurement.sends(sentMs);
    const took = tookMs(number);
    if (took !== null) back.push({ number, atMs: sentMs + took });
    endMs = sentMs;
  }
  for (const { number, atMs } of back) {
    measurement.back(number, atMs);
    endMs = Math.max(endMs, atMs);
  }
  return { measurement, endMs };
}

describe("a way", () => {
  test.each<[string, (number: number) => number | null, number, number]>([
    ["all back", () => 20, 20, 0],
    ["one late", (number) => (number === 7 ? 400 : 20), 20, 0],
    ["one of forty lost says nothing", (number) => (number === 7 ? null : 20), 20, 0],
    ["four of forty lost, of which one says nothing", (number) => (number % 10 === 3 ? null : 60), 60, 75],
    ["half lost", (number) => (number % 2 === 0 ? null : 35), 35, 475],
    ["in waves", (number) => 40 + (number % 5), 42, 0],
  ])("%s", (_, tookMs, roundTripMs, lossPermille) => {
    const { measurement, endMs } = measured(tookMs);
    expect(measurement.way(endMs + 1000)).toEqual({ roundTripMs, lossPermille });
  });

  test("of which too little came back is none", () => {
    const { measurement, endMs } = measured((number) => (number < 7 ? 20 : null));
    expect(measurement.way(endMs + 1000)).toBeNull();
    expect(new Measurement().way(0)).toBeNull();
  });

  test("is known as soon as all are back, or those that are not have had their time", () => {
    const all = measured(() => 20);
    expect(all.measurement.isDone(all.endMs)).toBe(true);
    const most = measured((number) => (number === MESSAGES - 1 ? null : 20));
    const lastMs = (MESSAGES - 1) * APART_MS;
    expect(most.measurement.isDone(lastMs + 140)).toBe(false);
    expect(most.measurement.isDone(lastMs + 141)).toBe(true);
  });

  test("that is cut off counts nothing that may still come", () => {
    const measurement = new Measurement();
    for (let sent = 0; sent < 20; sent += 1) measurement.sends(sent * APART_MS);
    for (let back = 0; back < 10; back += 1) measurement.back(back, back * APART_MS + 240);
    expect(measurement.isDone(500)).toBe(false);
    expect(measurement.way(500)).toEqual({ roundTripMs: 240, lossPermille: 0 });
  });

  test("takes no answer to what was not asked, and none twice", () => {
    const { measurement, endMs } = measured(() => 20);
    for (const number of [-1, MESSAGES, 4_294_967_295, 3, 3]) measurement.back(number, endMs + 5000);
    expect(measurement.way(endMs)).toEqual({ roundTripMs: 20, lossPermille: 0 });
  });
});

test("of many sites some are chosen, each once", () => {
  const all = Array.from({ length: 20 }, (_, number) => number);
  expect(new Set(choose(all, 8, Math.random)).size).toBe(8);
  expect(choose(all, 8, () => 0)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(choose(all, 2, () => 1)).toEqual([19, 18]);
  expect(choose([1, 2], 8, () => 0.5)).toEqual([2, 1]);
  expect(choose([], 8, Math.random)).toEqual([]);
});
