import { describe, expect, test } from "vitest";
import { ClockSync, toWireUs } from "../../src/core/clock.js";
import { LatencyLedger } from "../../src/core/ledger.js";
import { Samples } from "../../src/core/samples.js";
import type { FrameMark } from "../../src/protocol/wire.generated.js";

/** The streamer's clock is so far ahead of ours, near the point where its 32 bits wrap. */
const AHEAD_US = 0xffff_f000;

function synced(): ClockSync {
  const clock = new ClockSync();
  // 10 ms there and 10 ms back, but one congested answer before and one after.
  for (const [sentMs, thereMs, backMs] of [
    [900, 80, 10],
    [1000, 10, 10],
    [1100, 10, 70],
  ] as const) {
    const serverUs = (toWireUs(sentMs + thereMs) + AHEAD_US) >>> 0;
    clock.pong(toWireUs(sentMs), serverUs, sentMs + thereMs + backMs);
  }
  return clock;
}

describe("clock", () => {
  test("the shortest round trip is believed, over the wrap of 32 bits", () => {
    const clock = synced();
    const serverUs = (toWireUs(4_294_000) + AHEAD_US) >>> 0;
    expect(clock.toClientMs(serverUs, 4_294_010)).toBeCloseTo(4_294_000, 2);
    expect(clock.roundTripMs).toBeCloseTo(80, 2);
  });

  test("knows nothing before the first answer, and refuses absurd ones", () => {
    const clock = new ClockSync();
    expect(clock.toClientMs(0, 0)).toBeNull();
    clock.pong(toWireUs(100_000), 0, 1_000);
    expect(clock.isKnown).toBe(false);
  });
});

const mark = (rtpTimestamp: number, inputSequence: number, committedMs: number): FrameMark => ({
  rtpTimestamp,
  inputSequence,
  committedUs: (toWireUs(committedMs) + AHEAD_US) >>> 0,
  inputToCommit100us: 80,
  capture100us: 10,
  encode100us: 60,
});

describe("ledger", () => {
  test("an input is answered by the first frame that can show it, in legs that add up", () => {
    const ledger = new LatencyLedger(synced());
    ledger.input(1, 2_000);
    ledger.input(2, 2_004);
    // The newest input took 6 ms to the streamer, 8 ms to the commit; 1 + 6 ms later it left; shown 20 ms after that.
    ledger.mark(mark(111, 2, 2_018));
    ledger.mark(mark(222, 2, 2_034));
    ledger.shown({ rtpTimestamp: 111, shownMs: 2_045 });
    ledger.shown({ rtpTimestamp: 222, shownMs: 2_061 });
    const { frameAgeMs, inputToPhotonMs, legs, matching } = ledger.summary(2_100);
    expect(matching).toBe("rtp");
    expect(frameAgeMs?.count).toBe(2);
    expect(frameAgeMs?.median).toBeCloseTo(27, 1);
    expect(inputToPhotonMs?.count).toBe(2);
    expect(inputToPhotonMs?.p95).toBeCloseTo(45, 1);
    expect(legs?.inputMs.median).toBeCloseTo(6, 1);
    const sum = Object.values(legs ?? {}).reduce((total, leg) => total + leg.median, 0);
    expect(sum).toBeCloseTo(2_045 - 2_004, 1);
  });

  test("a mark that is slower than its frame still counts", () => {
    const ledger = new LatencyLedger(synced());
    ledger.input(1, 2_000);
    ledger.shown({ rtpTimestamp: 5, shownMs: 2_050 });
    expect(ledger.summary(2_051).frameAgeMs).toBeNull();
    ledger.mark(mark(5, 1, 2_020));
    expect(ledger.summary(2_051).inputToPhotonMs?.median).toBeCloseTo(50, 1);
  });

  test("without RTP timestamps the newest mark is taken, and said to be a guess", () => {
    const ledger = new LatencyLedger(synced());
    ledger.mark(mark(5, 0, 2_020));
    ledger.shown({ rtpTimestamp: null, shownMs: 2_050 });
    ledger.shown({ rtpTimestamp: null, shownMs: 2_066 });
    expect(ledger.summary(2_100)).toMatchObject({ matching: "newest", frameAgeMs: { count: 1 } });
  });

  test("inputs of a lost connection are never answered by the next one", () => {
    const ledger = new LatencyLedger(synced());
    ledger.input(1, 2_000);
    ledger.reset();
    ledger.mark(mark(5, 1, 2_020));
    ledger.shown({ rtpTimestamp: 5, shownMs: 2_050 });
    expect(ledger.summary(2_051).inputToPhotonMs).toBeNull();
    expect(ledger.summary(2_051).frameAgeMs?.count).toBe(1);
  });

  test("is bounded, whatever never arrives", () => {
    const ledger = new LatencyLedger(synced());
    for (let index = 1; index < 100_000; index += 1) {
      ledger.input(index, index);
      ledger.mark(mark(index, index, index));
      ledger.shown({ rtpTimestamp: index + 0x8000_0000, shownMs: index });
    }
    ledger.mark(mark(7, 99_999, 100_020));
    ledger.shown({ rtpTimestamp: 7, shownMs: 100_030 });
    expect(ledger.summary(100_031).inputToPhotonMs?.count).toBeLessThanOrEqual(2_048);
  });
});

test("samples forget what is old", () => {
  const samples = new Samples(1_000, 3);
  for (const [at, value] of [
    [0, 1],
    [500, 2],
    [900, 3],
    [1_000, 10],
  ] as const)
    samples.add(at, value);
  expect(samples.summary(1_000)).toEqual({ median: 3, p95: 10, count: 3 });
  expect(samples.summary(1_950)).toEqual({ median: 10, p95: 10, count: 1 });
  expect(samples.summary(9_000)).toBeNull();
});
