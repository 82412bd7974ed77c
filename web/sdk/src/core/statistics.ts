//! Figures of the play, once a second: what was shown, what the transport counted, what the ledger measured.

import type { FrameReport, StreamStatistics } from "../protocol/wire.generated.js";
import type { LatencySummary } from "./ledger.js";

/** How frames come to the screen: drawn by the page, or shown by `<video>`. */
export type PictureKind = "canvas" | "video";

/** The counters of `RTCPeerConnection.getStats()` that are read; they count from the connection's start. */
export interface TransportCounters {
  readonly atMs: number;
  readonly bytes: number;
  readonly packets: number;
  readonly packetsLost: number;
  readonly framesDecoded: number;
  readonly decodeS: number;
  readonly freezes: number;
  readonly codec: string | null;
  readonly width: number;
  readonly height: number;
}

/** What the player can be asked for at any time. Times in milliseconds; `null` where nothing was measured yet. */
export interface PlayerStatistics {
  readonly picture: PictureKind | null;
  readonly codec: string | null;
  readonly width: number;
  readonly height: number;
  readonly framesPerSecond: number;
  readonly bitrateKbps: number;
  readonly roundTripMs: number | null;
  readonly decodeMs: number | null;
  /** Lost packets of the last second, 0 to 1. */
  readonly loss: number;
  /** Frames that arrived in the last second but were never shown. */
  readonly dropped: number;
  /** Longest time between two shown frames of the last second. */
  readonly longestGapMs: number;
  /** Freezes that the browser counted since the connection began. */
  readonly freezes: number;
  readonly latency: LatencySummary;
  /** The streamer's side. */
  readonly stream: StreamStatistics | null;
}

/** What was shown over one report's time. */
export interface FrameCount {
  readonly shown: number;
  readonly framesPerSecond: number;
  readonly longestGapMs: number;
  readonly slackMs: number | null;
  /** How many frames up to the last, one after the other, waited behind the one before. */
  readonly waiting: number;
}

/** Counts shown frames over one report's time. */
export class FrameCounter {
  #shown = 0;
  #sinceMs: number | null = null;
  #lastMs: number | null = null;
  #longestGapMs = 0;
  #slacksMs: number[] = [];
  #waiting = 0;

  /** `slackMs`: how long the frame lay ready before the display took it, where that is known; `waited`: behind the one before. */
  shown(atMs: number, slackMs: number | null = null, waited = false): void {
    this.#shown += 1;
    this.#waiting = waited ? this.#waiting + 1 : 0;
    if (slackMs !== null && slackMs >= 0) this.#slacksMs.push(slackMs);
    if (this.#lastMs !== null) this.#longestGapMs = Math.max(this.#longestGapMs, atMs - this.#lastMs);
    this.#lastMs = atMs;
  }

  /** How many frames up to the last, one after the other, waited behind the one before. */
  get waiting(): number {
    return this.#waiting;
  }

  /** The pause of a reconnect is no gap between frames. */
  reset(): void {
    this.#lastMs = null;
  }

  /** The figures since the last call. */
  take(nowMs: number): FrameCount {
    const spanMs = this.#sinceMs === null ? 1000 : Math.max(1, nowMs - this.#sinceMs);
    const taken = {
      shown: this.#shown,
      framesPerSecond: (this.#shown * 1000) / spanMs,
      longestGapMs: this.#longestGapMs,
      // Nine of ten frames lay at least so long.
      slackMs: this.#slacksMs.sort((a, b) => a - b)[Math.floor(this.#slacksMs.length / 10)] ?? null,
      waiting: this.#waiting,
    };
    this.#slacksMs = [];
    this.#sinceMs = nowMs;
    this.#shown = 0;
    this.#longestGapMs = 0;
    return taken;
  }
}

export interface TransportRates {
  readonly bitrateKbps: number;
  readonly loss: number;
  readonly decodeMs: number | null;
  readonly framesDecoded: number;
}

/** What happened between two readings of the counters. */
export function transportRates(before: TransportCounters | null, now: TransportCounters): TransportRates {
  const spanMs = before === null ? 0 : now.atMs - before.atMs;
  if (before === null || spanMs <= 0) return { bitrateKbps: 0, loss: 0, decodeMs: null, framesDecoded: 0 };
  const lost = Math.max(0, now.packetsLost - before.packetsLost);
  const received = Math.max(0, now.packets - before.packets);
  const framesDecoded = Math.max(0, now.framesDecoded - before.framesDecoded);
  return {
    bitrateKbps: (Math.max(0, now.bytes - before.bytes) * 8) / spanMs,
    loss: lost + received === 0 ? 0 : lost / (lost + received),
    decodeMs: framesDecoded === 0 ? null : ((now.decodeS - before.decodeS) * 1000) / framesDecoded,
    framesDecoded,
  };
}

/** What a report says of the slack where the browser does not tell. */
const UNKNOWN_SLACK = 65_535;

/** For the streamer. */
export function frameReport({ shown, slackMs, waiting }: FrameCount, statistics: PlayerStatistics): FrameReport {
  const u16 = (value: number): number => Math.max(0, Math.min(65_535, Math.round(value)));
  return {
    presented: u16(shown),
    dropped: u16(statistics.dropped),
    longestGapMs: u16(statistics.longestGapMs),
    frameAge100us: u16((statistics.latency.frameAgeMs?.median ?? 0) * 10),
    inputToPhoton100us: u16((statistics.latency.inputToPhotonMs?.median ?? 0) * 10),
    decode100us: u16((statistics.decodeMs ?? 0) * 10),
    displaySlack100us: slackMs === null ? UNKNOWN_SLACK : Math.min(u16(slackMs * 10), UNKNOWN_SLACK - 1),
    waiting: u16(waiting),
  };
}
