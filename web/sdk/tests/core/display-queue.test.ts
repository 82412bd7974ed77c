import { describe, expect, test } from "vitest";
import { DisplayQueue } from "../../src/core/display-queue.js";

/** What the page takes to hand a frame to its compositor. */
const REACH_MS = 1;
/** After a beat, before the page looks what is new. */
const LOOK_MS = 2;

interface Shown {
  /** How long the compositor could have drawn it before it did. */
  readonly waitedMs: number;
  readonly waited: boolean;
}

/** A compositor that draws a frame at once unless it has drawn in this interval; the page hears of the newest frame once a beat. */
function play(intervalMs: number, readyMs: readonly number[], queue = cleared(intervalMs, readyMs[0] ?? 0)): Shown[] {
  let taken = -1;
  const beatOf = (ready: number): number => Math.ceil((ready - LOOK_MS) / intervalMs) * intervalMs;
  return readyMs.flatMap((ready, index) => {
    const place = Math.floor((ready + REACH_MS) / intervalMs);
    const got = Math.max(place, Math.min(taken + 1, place + 1));
    taken = got;
    const waitedMs = got === place ? 0 : got * intervalMs - ready - REACH_MS;
    const isHeardOf = beatOf(readyMs[index + 1] ?? Number.POSITIVE_INFINITY) !== beatOf(ready);
    return isHeardOf ? [{ waitedMs, waited: queue.shown(ready, beatOf(ready), index) }] : [];
  });
}

/** One that has seen an interval without a frame, two beats before the first frame. */
function cleared(intervalMs: number, firstMs: number): DisplayQueue {
  const queue = new DisplayQueue();
  const beatMs = Math.ceil((firstMs - LOOK_MS) / intervalMs) * intervalMs;
  for (const [count, beats] of [5, 4, 2].entries()) {
    queue.shown(beatMs - (beats + 0.5) * intervalMs, beatMs - beats * intervalMs, count - 3);
  }
  return queue;
}

const frames = (count: number, intervalMs: number, firstMs: number): number[] =>
  Array.from({ length: count }, (_, index) => firstMs + index * intervalMs);

describe("frames at the display", () => {
  test("of one a beat none waits, at any phase", () => {
    for (let phase = 0; phase < 16; phase += 0.5) {
      const shown = play(16.667, frames(200, 16.667, 1000 + phase));
      expect(shown.filter(({ waited }) => waited)).toEqual([]);
    }
  });

  test("all wait after two came in one interval, until one is left out", () => {
    // Three milliseconds before the beat; one of them comes just after it, and the next one before its own.
    const ready = frames(180, 16.667, 10_013.7);
    ready[60] = (ready[60] ?? 0) + 4;
    ready.splice(120, 1);
    const shown = play(16.667, ready);
    expect(shown).toHaveLength(179);
    expect(shown.slice(0, 61).some(({ waited }) => waited)).toBe(false);
    expect(shown.slice(61, 120).every(({ waited, waitedMs }) => waited && waitedMs > 0)).toBe(true);
    expect(shown.slice(120).some(({ waited }) => waited)).toBe(false);
  });

  test("a frame that was shown at once is not said to wait, whatever the jitter; of the others most are", () => {
    let seed = 7;
    const random = (): number => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    for (const display of [16.667, 6.944, 8.333]) {
      const ready = frames(4000, 16.7, 5000).map((at) => at + random() * 6);
      const shown = play(display, ready).slice(100);
      const waited = shown.filter(({ waitedMs }) => waitedMs > 0);
      const wrong = shown.filter((one) => one.waited && one.waitedMs === 0);
      expect(wrong.length / shown.length).toBeLessThan(0.005);
      expect(waited.filter((one) => one.waited).length).toBeGreaterThanOrEqual(waited.length / 2);
    }
  });

  test("a fast display has room for all, once its interval is known", () => {
    const shown = play(6.944, frames(600, 16.667, 3000)).slice(60);
    expect(shown.filter(({ waited }) => waited)).toEqual([]);
  });

  test("after a pause nothing waits", () => {
    const ready = [...frames(60, 16.667, 1000), 2000, 2001, ...frames(60, 16.667, 3012)];
    expect(
      play(16.667, ready)
        .slice(62)
        .some(({ waited }) => waited),
    ).toBe(false);
  });

  test("they may be waiting as long as no interval was without one", () => {
    const ready = frames(1400, 16.667, 1005);
    ready.splice(700, 1);
    const shown = play(16.667, ready, new DisplayQueue()).map(({ waited }) => waited);
    expect(shown.indexOf(true)).toBe(61);
    expect(shown.slice(61, 700).every(Boolean)).toBe(true);
    expect(shown.slice(700, 1300).some(Boolean)).toBe(false);
    expect(shown.slice(1310).every(Boolean)).toBe(true);
  });
});
