/** Reads what programs print, and compares. Pure. */

import { percentile, rounded } from "../lib/percentiles.ts";
import type { Step } from "./product.ts";

/** One step of one product in one round. */
export interface Run extends Step {
  readonly round: number;
  readonly product: string;
  /** `push`, `sync`, `repush`, `resync`, `copy`, and the same of the real package with `real_` before them. */
  readonly step: string;
  readonly load: number;
}

/** Kite's wall time over a peer's: name, step, peer. */
const RATIOS = [
  ["push_vs_rsync", "push", "rsync"],
  ["repush_vs_rsync", "repush", "rsync"],
  ["sync_vs_rsync", "sync", "rsync"],
  ["resync_vs_rsync", "resync", "rsync"],
  ["push_vs_casync", "push", "casync"],
  ["repush_vs_casync", "repush", "casync"],
  ["sync_vs_casync", "sync", "casync"],
  ["resync_vs_casync", "resync", "casync"],
] as const;

/** Bytes of `4G`, `256M`, `1000000`; units are powers of 1024. */
export function bytesOf(text: string): number {
  const match = /^(\d+)([KMG]?)$/.exec(text);
  if (!match) throw new Error(`${text} is no size: write 4G, 256M or a number of bytes`);
  return Number(match[1]) * { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }[match[2] as "" | "K" | "M" | "G"];
}

/** Wall and CPU seconds of the line that bash's `time` printed by our format. */
export function timeOf(output: string): { wallS: number; cpuS: number } {
  const match = /^took (\S+) (\S+) (\S+)$/m.exec(output);
  if (!match) throw new Error(`no time in:\n${output.slice(-2000)}`);
  return { wallS: Number(match[1]), cpuS: Number(match[2]) + Number(match[3]) };
}

/** Both directions of `rsync --stats`. */
export function rsyncTraffic(output: string): { sent: number; received: number } {
  const figure = (name: string): number => {
    const match = new RegExp(`^Total bytes ${name}: ([\\d,.]+)$`, "m").exec(output);
    if (!match) throw new Error(`rsync did not say how much it has ${name}:\n${output.slice(-2000)}`);
    return Number(match[1]?.replaceAll(/[,.]/g, ""));
  };
  return { sent: figure("sent"), received: figure("received") };
}

/** The JSON object on the last line that is not empty. */
export function lastLine<T>(output: string): T {
  const line = output.trimEnd().split("\n").at(-1) ?? "";
  try {
    return JSON.parse(line) as T;
  } catch {
    throw new Error(`the last line is not JSON: ${line.slice(0, 500)}`);
  }
}

function median(values: readonly number[]): number | null {
  return values.length === 0 ? null : rounded(percentile(values, 50), 3);
}

/** The median over the rounds that have both steps of one over the other. */
function over(runs: readonly Run[], step: string, peer: string): number | null {
  const wall = (product: string, round: number): number | undefined =>
    runs.find((run) => run.product === product && run.step === step && run.round === round)?.wall_s;
  const rounds = [...new Set(runs.map((run) => run.round))];
  return median(
    rounds.flatMap((round) => {
      const [ours, theirs] = [wall("kite", round), wall(peer, round)];
      return ours === undefined || theirs === undefined ? [] : [ours / theirs];
    }),
  );
}

/** Kite over its peers; null where one of both did not run. */
export function ratios(runs: readonly Run[], differenceBytes: number): Record<string, number | null> {
  const sent = runs.filter((run) => run.product === "kite" && run.step === "repush").map((run) => run.sent_bytes);
  return {
    ...Object.fromEntries(RATIOS.map(([name, step, peer]) => [name, over(runs, step, peer)])),
    sent_vs_difference: median(sent.filter((bytes) => bytes !== null).map((bytes) => bytes / differenceBytes)),
  };
}

/** Bytes of both builds over those that the store grew by, of a product's first round. */
export function dedupRatio(runs: readonly Run[], product: string, buildBytes: readonly number[]): number | null {
  const pushes = runs.filter((run) => run.round === 1 && run.product === product && ["push", "repush"].includes(run.step));
  const stored = pushes.reduce((sum, run) => sum + (run.stored_bytes ?? Number.NaN), 0);
  if (pushes.length !== buildBytes.length || !(stored > 0)) return null;
  return rounded(buildBytes.reduce((sum, bytes) => sum + bytes, 0) / stored, 3);
}

/** A table of medians over the rounds, a line each step of each product. */
export function table(runs: readonly Run[]): string {
  const keys = [...new Set(runs.map((run) => `${run.step} ${run.product}`))];
  const cell = (value: number | null, width: number): string => (value === null ? "-" : String(value)).padStart(width);
  const lines = keys.map((key) => {
    const [step = "", product = ""] = key.split(" ");
    const same = runs.filter((run) => run.step === step && run.product === product);
    const of = (figure: (run: Run) => number | null): number | null =>
      median(same.map(figure).filter((value) => value !== null));
    const megabytes = (bytes: number | null): number | null => (bytes === null ? null : rounded(bytes / 1e6));
    return (
      `${step.padEnd(12)} ${product.padEnd(8)} ${cell(of((run) => run.wall_s), 9)} ${cell(of((run) => run.cpu_s), 9)}` +
      ` ${cell(of((run) => megabytes(run.sent_bytes)), 10)} ${cell(of((run) => megabytes(run.stored_bytes)), 10)}`
    );
  });
  const heading = `${"step".padEnd(12)} ${"product".padEnd(8)} ${"wall s".padStart(9)} ${"cpu s".padStart(9)} ${"sent MB".padStart(10)} ${"stored MB".padStart(10)}`;
  return `${[heading, ...lines].join("\n")}\n`;
}
