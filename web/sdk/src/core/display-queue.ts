//! Whether frames queue at the display: pure, times in, yes or no out.
//!
//! A display takes one frame an interval, at its beat. Of two that become ready within one interval the second waits for the next, and so takes
//! the place of the third: from then on every frame waits, though none comes late, until an interval without a frame comes by.
//! A page hears of one frame a beat, so that some queues begin unseen. Therefore frames are also said to wait when none of many intervals
//! before was without a frame: then nothing tells that they do not.
//!
//! ```text
//! beats     |       |       |       |       |
//! ready     a b     c       d               e
//! shown     a       b       c       d       e
//!             ^ one too many        ^ the queue is empty again
//! ```

/** From what a page calls ready until the compositor has it. Less calls frames just before a beat early, more calls early ones late. */
const REACH_MS = 1;

/** Beats that are nearer to each other are one. No display is faster than 300 Hz. */
const SHORTEST_MS = 3;

/** Longer without a frame, and nothing can be waiting. */
const PAUSE_MS = 250;

/** So many frames without an interval between that had none, and they may be waiting. Less asks for a frame to be left out too often. */
const DOUBT_FRAMES = 600;

/** How many of those count at the beginning, when nothing is known: the question comes after a second. */
const DOUBT_AT_FIRST = DOUBT_FRAMES - 60;

/** As many frames wait at most: the compositor drops what is older. */
const MOST_WAITING = 2;

/** How far a distance may be from a multiple of the interval, in intervals, before the interval is taken for too long. */
const CLEARLY_BETWEEN = 0.25;

/** Part of a new distance that counts. More follows noise, less takes long to learn. */
const LEARNING = 1 / 32;

/** See the module. */
export class DisplayQueue {
  #intervalMs: number | null = null;
  #beatMs: number | null = null;
  /** Beats counted from the first frame. */
  #beat = 0;
  /** The interval whose place was taken last. */
  #taken: number | null = null;
  /** Frames since the last interval that had none. */
  #unbroken = DOUBT_AT_FIRST;
  #count: number | null = null;

  /**
   * A frame was ready at `readyMs`, the `count`th of the video; the page heard of it with the display's beat at `beatMs`. True when it
   * waited behind the one before, or may have.
   */
  shown(readyMs: number, beatMs: number, count: number): boolean {
    // What the page did not hear of took places, too.
    const unheardOf = this.#count === null ? 0 : Math.max(0, count - this.#count - 1);
    this.#count = count;
    const distanceMs = this.#beatMs === null ? 0 : beatMs - this.#beatMs;
    if (this.#beatMs !== null && distanceMs < SHORTEST_MS) return false;
    this.#beatMs = beatMs;
    if (distanceMs > PAUSE_MS) [this.#taken, this.#unbroken] = [null, 0];
    const intervalMs = this.#learn(distanceMs);
    if (intervalMs === null) return false;

    this.#beat += Math.round(distanceMs / intervalMs);
    const place = this.#beat + Math.floor((readyMs + REACH_MS - beatMs) / intervalMs);
    const next = this.#taken === null ? place : this.#taken + 1 + unheardOf;
    const got = Math.max(place, Math.min(next, place + MOST_WAITING));
    this.#taken = got;
    this.#unbroken = place > next ? 0 : this.#unbroken + 1;
    return got > place || this.#unbroken > DOUBT_FRAMES;
  }

  /** Frames come one or more intervals of the display apart. */
  #learn(distanceMs: number): number | null {
    if (distanceMs < SHORTEST_MS || distanceMs > PAUSE_MS) return this.#intervalMs;
    let intervalMs = this.#intervalMs ?? distanceMs;
    if (distanceMs < intervalMs * (1 - CLEARLY_BETWEEN)) intervalMs = distanceMs;
    const intervals = distanceMs / intervalMs;
    const nearest = Math.round(intervals);
    if (Math.abs(intervals - nearest) > CLEARLY_BETWEEN) {
      if (intervalMs / 2 >= SHORTEST_MS) intervalMs /= 2;
    } else {
      intervalMs += (distanceMs / nearest - intervalMs) * LEARNING;
    }
    this.#intervalMs = intervalMs;
    return intervalMs;
  }
}
