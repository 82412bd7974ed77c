/** Turns an observation into figures. Pure. */

import { percentile, rounded } from "../lib/percentiles.ts";
import type { Display } from "../products/product.ts";
import type { Answer, Observation } from "./measure.ts";
import { ageMs } from "../lib/screen.ts";
import type { Shown } from "../lib/screen.ts";

/** A run in which the probe's own ticks were later than this at the 99th percentile says more about the machine than about the product. */
const STARVED_LATE_MS = 5;

/** Median, 95th and 99th percentile in milliseconds. */
export interface Spread {
  readonly median: number;
  readonly p95: number;
  readonly p99: number;
}

/** One line of the result, with the field names of the JSON. */
export interface Run {
  readonly product: string;
  readonly display: Display;
  readonly width: number;
  readonly height: number;
  /** How often the product was started anew; the figures are of all rounds together. */
  readonly rounds: number;
  readonly inputs: number;
  readonly lost: number;
  readonly median_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  /** Different frames of the probe that were shown, a second. */
  readonly fps: number;
  /** Commit by the application to shown: median. */
  readonly frame_age_ms: number;
  readonly frame_age_p95_ms: number;
  /** CPU seconds a second of stream: the product with its display and sound servers, without probe and browser. */
  readonly server_cpu: number;
  /** The part of it that is the display server. */
  readonly display_cpu: number;
  readonly browser_cpu: number;
  readonly memory_mb: number;
  readonly mbit_s: number;
  readonly mbit_by: string;
  /** The application has the input -> the display shows it: median. */
  readonly event_to_photon_ms: number;
  readonly event_to_photon_p95_ms: number;
  /** Legs of the way of an input, medians. */
  readonly legs_ms: { readonly input: number; readonly application: number; readonly picture: number };
  readonly own: Readonly<Record<string, number>>;
  readonly load_before: number;
  readonly load_after: number;
  readonly probe_late_p99_ms: number;
  /** Longest time between two frames on the display. */
  readonly longest_gap_ms: number;
  /** The probe did not get the processor in time: compare with care. */
  readonly starved: boolean;
}

/** Legs of one answered input: key -> application, application -> its commit, commit -> shown. */
export function legs(answer: Answer): { input: number; application: number; picture: number } {
  const { press, shown } = answer;
  // The frame that was seen may be a later one than the first with this input, when that one was skipped.
  const picture = ageMs(shown) + shown.sinceMs;
  return { input: shown.atMs - press.atMs - picture - shown.applicationMs, application: shown.applicationMs, picture };
}

function sum(values: Iterable<number>): number {
  return [...values].reduce((total, value) => total + value, 0);
}

function longestGapMs(shown: readonly Shown[]): number {
  return shown.reduce((longest, { atMs }, index) => Math.max(longest, atMs - (shown[index - 1]?.atMs ?? atMs)), 0);
}

/** The way of every input, in milliseconds. */
export function clickToPhotonMs(rounds: readonly Observation[]): number[] {
  return rounds.flatMap(({ answers }) => answers.map(({ press, shown }) => shown.atMs - press.atMs));
}

/** Mean of the rounds' figures, name by name. */
function means(rounds: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = new Set(rounds.flatMap((round) => Object.keys(round)));
  return Object.fromEntries(
    [...names].map((name) => {
      const values = rounds.map((round) => round[name]).filter((value) => value !== undefined);
      return [name, rounded(sum(values) / values.length)];
    }),
  );
}

/** The figures of all rounds of one product at one format together. */
export function judge(rounds: readonly [Observation, ...Observation[]]): Run {
  const [first] = rounds;
  const last = rounds.at(-1) ?? first;
  const total = (of: (round: Observation) => number): number => sum(rounds.map(of));
  const seconds = total((round) => round.seconds);
  const totals = clickToPhotonMs(rounds);
  const parts = rounds.flatMap((round) => round.answers.map(legs));
  const afterEvent = parts.map((part) => part.application + part.picture);
  const ages = rounds.flatMap((round) => round.shown.map(ageMs));
  const isDisplay = (name: string): boolean => first.displayNames.includes(name);
  const displayCpuS = total((round) => sum([...round.cpuS].filter(([name]) => isDisplay(name)).map(([, cpuS]) => cpuS)));
  const lateMs = percentile(rounds.flatMap((round) => round.shown.map((frame) => frame.lateMs)), 99);
  return {
    product: first.product,
    display: first.display,
    width: first.format.width,
    height: first.format.height,
    rounds: rounds.length,
    inputs: totals.length,
    lost: total((round) => round.lost),
    median_ms: rounded(percentile(totals, 50)),
    p95_ms: rounded(percentile(totals, 95)),
    p99_ms: rounded(percentile(totals, 99)),
    fps: rounded(total((round) => new Set(round.shown.map((frame) => frame.frame)).size) / seconds),
    frame_age_ms: rounded(percentile(ages, 50)),
    frame_age_p95_ms: rounded(percentile(ages, 95)),
    server_cpu: rounded(total((round) => sum(round.cpuS.values())) / seconds, 3),
    display_cpu: rounded(displayCpuS / seconds, 3),
    browser_cpu: rounded(total((round) => round.browserCpuS) / seconds, 3),
    memory_mb: rounded(Math.max(...rounds.map((round) => sum(round.memoryBytes.values()))) / 2 ** 20, 0),
    mbit_s: rounded((total((round) => round.bytes) * 8) / seconds / 1e6, 2),
    mbit_by: first.bytesBy,
    event_to_photon_ms: rounded(percentile(afterEvent, 50)),
    event_to_photon_p95_ms: rounded(percentile(afterEvent, 95)),
    legs_ms: {
      input: rounded(percentile(parts.map((part) => part.input), 50)),
      application: rounded(percentile(parts.map((part) => part.application), 50)),
      picture: rounded(percentile(parts.map((part) => part.picture), 50)),
    },
    own: means(rounds.map((round) => round.ownFigures)),
    load_before: rounded(first.loadBefore, 2),
    load_after: rounded(last.loadAfter, 2),
    probe_late_p99_ms: rounded(lateMs),
    longest_gap_ms: rounded(Math.max(...rounds.map(({ shown }) => longestGapMs(shown)))),
    starved: lateMs > STARVED_LATE_MS,
  };
}

/** Kite's figure over the peer's, for one format. */
export interface Ratios {
  readonly peer: string;
  readonly median: number;
  readonly p95: number;
  readonly event_to_photon: number;
  readonly server_cpu: number;
  readonly fps: number;
}

/** The better mode of a peer is the one with the smaller median. */
export function ratios(kite: Run, peers: readonly Run[]): Ratios | undefined {
  const peer = peers.toSorted((a, b) => a.median_ms - b.median_ms)[0];
  if (!peer) return undefined;
  return {
    peer: peer.product,
    median: rounded(kite.median_ms / peer.median_ms, 3),
    p95: rounded(kite.p95_ms / peer.p95_ms, 3),
    event_to_photon: rounded(kite.event_to_photon_ms / peer.event_to_photon_ms, 3),
    server_cpu: rounded(kite.server_cpu / peer.server_cpu, 3),
    fps: rounded(kite.fps / peer.fps, 3),
  };
}
