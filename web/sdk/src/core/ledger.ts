//! The latency ledger: which input a shown frame answers, how long that took, and on which leg of the way.
//!
//! Each input is remembered by its sequence. The streamer's FrameMark says which input a frame can show and when the game
//! committed it; the shown frame is matched to its mark by RTP timestamp. Times are milliseconds of the client's clock.

import type { FrameMark } from "../protocol/wire.generated.js";
import type { ClockSync } from "./clock.js";
import { Samples, type Summary } from "./samples.js";

/** How shown frames are matched to marks: exactly, or to the newest mark because the browser tells no RTP timestamp. */
export type Matching = "rtp" | "newest" | "none";

/** A frame that the player can see. */
export interface ShownFrame {
  /** `null` where the browser does not tell. */
  readonly rtpTimestamp: number | null;
  readonly shownMs: number;
}

/** The way of an input to the eye, in legs that add up to the whole (of the newest input that a frame answers). */
export interface Legs {
  /** From the event to its arrival at the streamer. */
  readonly inputMs: Summary;
  /** From the arrival to the game's commit of a frame: mostly the game's own wait for its tick. */
  readonly applicationMs: Summary;
  /** From commit to the start of encoding. */
  readonly captureMs: Summary;
  readonly encodeMs: Summary;
  /** From the end of encoding to the screen: network, decoding, drawing. */
  readonly deliveryMs: Summary;
}

export interface LatencySummary {
  readonly matching: Matching;
  /** From the game's commit to the screen. */
  readonly frameAgeMs: Summary | null;
  /** From an input to the first shown frame that can show it; all inputs. */
  readonly inputToPhotonMs: Summary | null;
  readonly legs: Legs | null;
}

/** Inputs remembered: two seconds of a 1000 Hz mouse at most. Older ones are not matched any more. */
const INPUTS = 2048;
/** Marks and frames that wait for each other: half a second at 240 a second. */
const WAITING = 128;
/** Statistics look back so far. */
const SPAN_MS = 10_000;
/** A longer time is a pause or a broken clock, not a latency. */
const ABSURD_MS = 5_000;

export class LatencyLedger {
  readonly #clock: ClockSync;
  readonly #inputTimesMs = new Float64Array(INPUTS);
  readonly #inputSequences = new Uint32Array(INPUTS);
  #newestInput = 0;
  #answeredInput = 0;
  readonly #marks = new Map<number, FrameMark>();
  readonly #unmatched = new Map<number, number>();
  #newestMark: FrameMark | null = null;
  #matching: Matching = "none";
  readonly #frameAge = new Samples(SPAN_MS, 2400);
  readonly #inputToPhoton = new Samples(SPAN_MS, 4096);
  readonly #legs = [0, 1, 2, 3, 4].map(() => new Samples(SPAN_MS, 2400));

  constructor(clock: ClockSync) {
    this.#clock = clock;
  }

  /** A new connection: marks of the old one are void; inputs count on. */
  reset(): void {
    this.#marks.clear();
    this.#unmatched.clear();
    this.#newestMark = null;
    this.#answeredInput = this.#newestInput;
  }

  input(sequence: number, timeMs: number): void {
    this.#inputTimesMs[sequence % INPUTS] = timeMs;
    this.#inputSequences[sequence % INPUTS] = sequence;
    this.#newestInput = sequence;
  }

  mark(mark: FrameMark): void {
    this.#newestMark = mark;
    const shownMs = this.#unmatched.get(mark.rtpTimestamp);
    if (shownMs !== undefined) {
      // The mark was slower than its frame.
      this.#unmatched.delete(mark.rtpTimestamp);
      this.#account(mark, shownMs);
      return;
    }
    remember(this.#marks, mark.rtpTimestamp, mark);
  }

  shown(frame: ShownFrame): void {
    if (frame.rtpTimestamp === null) {
      if (this.#newestMark === null) return;
      this.#matching = "newest";
      this.#account(this.#newestMark, frame.shownMs);
      this.#newestMark = null;
      return;
    }
    this.#matching = "rtp";
    const mark = this.#marks.get(frame.rtpTimestamp);
    if (mark === undefined) {
      remember(this.#unmatched, frame.rtpTimestamp, frame.shownMs);
      return;
    }
    this.#marks.delete(frame.rtpTimestamp);
    this.#account(mark, frame.shownMs);
  }

  #account(mark: FrameMark, shownMs: number): void {
    const committedMs = this.#clock.toClientMs(mark.committedUs, shownMs);
    if (committedMs === null) return;
    const ageMs = shownMs - committedMs;
    if (ageMs > -5 && ageMs < ABSURD_MS) this.#frameAge.add(shownMs, Math.max(0, ageMs));
    this.#accountInputs(mark, committedMs, shownMs);
  }

  #accountInputs(mark: FrameMark, committedMs: number, shownMs: number): void {
    const newest = mark.inputSequence;
    const answered = (newest - this.#answeredInput) | 0;
    if (newest === 0 || answered <= 0) return;
    for (let sequence = newest - Math.min(answered, INPUTS) + 1; sequence <= newest; sequence += 1) {
      const timeMs = this.#inputTime(sequence);
      if (timeMs === null || shownMs < timeMs || shownMs - timeMs > ABSURD_MS) continue;
      this.#inputToPhoton.add(shownMs, shownMs - timeMs);
    }
    this.#answeredInput = newest;
    const eventMs = this.#inputTime(newest);
    if (eventMs === null || shownMs - eventMs > ABSURD_MS) return;
    const applicationMs = mark.inputToCommit100us / 10;
    const captureMs = mark.capture100us / 10;
    const encodeMs = mark.encode100us / 10;
    const inputMs = committedMs - applicationMs - eventMs;
    const deliveryMs = shownMs - committedMs - captureMs - encodeMs;
    for (const [index, leg] of [inputMs, applicationMs, captureMs, encodeMs, deliveryMs].entries()) {
      this.#legs[index]?.add(shownMs, leg);
    }
  }

  #inputTime(sequence: number): number | null {
    const slot = (sequence >>> 0) % INPUTS;
    if (this.#inputSequences[slot] !== sequence >>> 0) return null;
    return this.#inputTimesMs[slot] ?? null;
  }

  summary(nowMs: number): LatencySummary {
    const [inputMs, applicationMs, captureMs, encodeMs, deliveryMs] = this.#legs.map((leg) => leg.summary(nowMs));
    const legs =
      inputMs && applicationMs && captureMs && encodeMs && deliveryMs
        ? { inputMs, applicationMs, captureMs, encodeMs, deliveryMs }
        : null;
    return {
      matching: this.#matching,
      frameAgeMs: this.#frameAge.summary(nowMs),
      inputToPhotonMs: this.#inputToPhoton.summary(nowMs),
      legs,
    };
  }
}

/** Bounded: the oldest is forgotten. */
function remember<Value>(map: Map<number, Value>, key: number, value: Value): void {
  map.set(key, value);
  if (map.size <= WAITING) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
