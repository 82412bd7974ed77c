//! The streamer's clock as the client sees it, by pings: the sample with the shortest round trip is the truest.

/** Microseconds since the time origin, wrapping at 32 bits: how both sides write their clocks. */
export function toWireUs(timeMs: number): number {
  return Math.floor(timeMs * 1000) >>> 0;
}

interface Sample {
  readonly atMs: number;
  readonly roundTripMs: number;
  /** Streamer's clock minus ours, in microseconds, wrapping. */
  readonly offsetUs: number;
}

/**
 * How many samples compete. More keeps one lucky, old sample while the clocks drift apart (up to 50 microseconds a
 * second); fewer lets a congested moment through. At four pings a second this is eight seconds.
 */
const WINDOW = 32;

export class ClockSync {
  #samples: Sample[] = [];
  #best: Sample | null = null;

  /** An answer: what we sent, what the streamer wrote, and when it arrived. */
  pong(clientTimeUs: number, serverTimeUs: number, nowMs: number): void {
    const roundTripUs = (toWireUs(nowMs) - clientTimeUs) >>> 0;
    // An answer that took longer than a minute is none of ours, or the arithmetic wrapped.
    if (roundTripUs > 60_000_000) return;
    const offsetUs = (serverTimeUs - clientTimeUs - Math.floor(roundTripUs / 2)) | 0;
    this.#samples.push({ atMs: nowMs, roundTripMs: roundTripUs / 1000, offsetUs });
    if (this.#samples.length > WINDOW) this.#samples.shift();
    this.#best = this.#samples.reduce((best, sample) => (sample.roundTripMs <= best.roundTripMs ? sample : best));
  }

  /** Another connection may lead to another streamer. */
  reset(): void {
    this.#samples = [];
    this.#best = null;
  }

  get isKnown(): boolean {
    return this.#best !== null;
  }

  /** Median of the recent round trips, or `null` before the first answer. */
  get roundTripMs(): number | null {
    const sorted = this.#samples.slice(-8).map((sample) => sample.roundTripMs);
    sorted.sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? null;
  }

  /** A recent time of the streamer's clock on ours, or `null` before the first answer. */
  toClientMs(serverUs: number, nowMs: number): number | null {
    if (this.#best === null) return null;
    const differenceUs = (serverUs - this.#best.offsetUs - toWireUs(nowMs)) | 0;
    return nowMs + differenceUs / 1000;
  }
}
