//! Whether frames queue at the display: pure, times in, yes or no out.
//!
//! A display takes one frame an interval, at its beat. Of two that become ready within one interval the second waits for the next, and so takes
//! the place of the third: from then on every frame waits, though none comes late, until an interval without a frame comes by.
//! A page hears of one frame a beat, so that some queues are missed; none is seen where there is none.
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

  /** A frame was ready at `readyMs`; the page heard of it with the display's beat at `beatMs`. True when it waited behind the one before. */
  shown(readyMs: number, beatMs: number): boolean {
    const distanceMs = this.#beatMs === null ? 0 : beatMs - this.#beatMs;
    if (this.#beatMs !== null && distanceMs < SHORTEST_MS) return false;
    this.#beatMs = beatMs;
    if (distanceMs > PAUSE_MS) this.#taken = null;
    const intervalMs = this.#learn(distanceMs);
    if (intervalMs === null) return false;

    this.#beat += Math.round(distanceMs / intervalMs);
    const place = this.#beat + Math.floor((readyMs + REACH_MS - beatMs) / intervalMs);
    const next = this.#taken === null ? place : this.#taken + 1;
    // One waits at most: a third one replaces it.
    const got = Math.max(place, Math.min(next, place + 1));
    this.#taken = got;
    return got > place;
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
