/**
 * `./x bench capacity [--app probe-x11|probe-wayland] [--limit N]`
 *
 * How many sessions of the probe this machine holds before one of them gets less than 95 % of its frames. The players are
 * receivers that decode nothing, so that the machine's processors go to the servers; what the receivers and the probes
 * themselves use is told apart. The last line of standard output is one JSON object.
 */

import { mkdirSync, rmSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { newDirectory, probePackage, startKite } from "e2e/lib/kite.ts";
import { play } from "e2e/lib/session.ts";
import type { Format, Session } from "e2e/lib/session.ts";

import { rounded } from "../lib/percentiles.ts";
import { cpuBetween, isProbe, tree } from "../lib/processes.ts";

const FORMATS: Readonly<Record<string, Format>> = {
  "720p30": { width: 1280, height: 720, framesPerSecond: 30 },
  "720p60": { width: 1280, height: 720, framesPerSecond: 60 },
};

/** Time for a new session's rate control to settle. */
const SETTLE_MS = 4000;
/** Time that is counted, in seconds. */
const COUNTED_S = 10;
/** A session that gets less than this share of its frames is one too many. */
const ENOUGH = 0.95;

/** What was seen with so many sessions at once. */
interface Step {
  readonly sessions: number;
  /** Frames a second of the session that got the fewest. */
  readonly worst_fps: number;
  readonly mean_fps: number;
  /** Shares of one processor: Kite's programs, display servers, probes, receivers. */
  readonly server_cpu: number;
  readonly probe_cpu: number;
  readonly receiver_cpu: number;
  /** All of these over all processors, 0 to 1. */
  readonly machine_share: number;
  readonly memory_mb: number;
  readonly mbit_s: number;
  readonly load: number;
}

async function count(sessions: readonly Session[], kitePid: number): Promise<Step> {
  await sleep(SETTLE_MS);
  const receivers = sessions.map((session) => session.receiverPid);
  const [kiteBefore, receiversBefore] = [tree([kitePid]), tree(receivers)];
  const starts = sessions.map((session) => session.seconds.length);
  const beganMs = performance.now();
  await sleep(COUNTED_S * 1000);
  const [kiteAfter, receiversAfter] = [tree([kitePid]), tree(receivers)];
  const seconds = (performance.now() - beganMs) / 1000;

  const rates = sessions.map((session, index) => {
    const counted = session.seconds.slice(starts[index]);
    const frames = counted.reduce((sum, second) => sum + second.frames, 0);
    return { fps: frames / counted.length, bytes: counted.reduce((sum, second) => sum + second.bytes, 0) };
  });
  const used = cpuBetween(kiteBefore, kiteAfter);
  const share = (wanted: (name: string) => boolean): number =>
    [...used].filter(([name]) => wanted(name)).reduce((sum, [, cpuS]) => sum + cpuS, 0) / seconds;
  const probe = share(isProbe);
  const server = share((name) => !isProbe(name));
  const receiver = [...cpuBetween(receiversBefore, receiversAfter).values()].reduce((sum, cpuS) => sum + cpuS, 0) / seconds;
  const memory = kiteAfter.reduce((sum, usage) => sum + usage.proportionalBytes, 0);
  return {
    sessions: sessions.length,
    worst_fps: rounded(Math.min(...rates.map(({ fps }) => fps))),
    mean_fps: rounded(rates.reduce((sum, { fps }) => sum + fps, 0) / rates.length),
    server_cpu: rounded(server, 2),
    probe_cpu: rounded(probe, 2),
    receiver_cpu: rounded(receiver, 2),
    machine_share: rounded((server + probe + receiver) / availableParallelism(), 2),
    memory_mb: rounded(memory / 2 ** 20, 0),
    mbit_s: rounded((rates.reduce((sum, { bytes }) => sum + bytes, 0) * 8) / seconds / 1e6),
    load: rounded(loadavg()[0] ?? 0, 2),
  };
}

/** Adds one session after the other until one gets too few frames. */
async function climb(app: "probe-x11" | "probe-wayland", format: Format, limit: number): Promise<Step[]> {
  const directory = newDirectory("kite-capacity-");
  const games = join(directory, "games");
  mkdirSync(games);
  probePackage(app, games);
  const kite = await startKite({ games: [games], sessions: limit, log: join(directory, "kite.log") });
  const sessions: Session[] = [];
  const steps: Step[] = [];
  try {
    while (sessions.length < limit) {
      sessions.push(await play(kite.base, app, format));
      const step = await count(sessions, kite.program.pid);
      const failure = sessions.map((session) => session.failure()).find((text) => text !== undefined);
      if (failure !== undefined) throw new Error(failure);
      steps.push(step);
      process.stderr.write(`${JSON.stringify(step)}\n`);
      if (!(step.worst_fps >= ENOUGH * format.framesPerSecond)) break;
    }
  } finally {
    await Promise.all(sessions.map((session) => session.stop()));
    await kite.stop();
    rmSync(directory, { recursive: true, force: true });
  }
  return steps;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      app: { type: "string", default: "probe-wayland" },
      format: { type: "string", multiple: true, default: Object.keys(FORMATS) },
      limit: { type: "string", default: "30" },
    },
  });
  if (values.app !== "probe-x11" && values.app !== "probe-wayland") throw new Error("the app is probe-x11 or probe-wayland");
  const result: Record<string, { sessions: number; steps: Step[] }> = {};
  for (const name of values.format) {
    const format = FORMATS[name];
    if (!format) throw new Error(`no format is called ${name}: ${Object.keys(FORMATS).join(", ")}`);
    process.stderr.write(`${name}:\n`);
    const steps = await climb(values.app, format, Number(values.limit));
    const enough = steps.filter((step) => step.worst_fps >= ENOUGH * format.framesPerSecond);
    result[name] = { sessions: enough.length, steps };
    const last = enough.at(-1);
    process.stdout.write(
      `${name}: ${enough.length} sessions on ${availableParallelism()} processors` +
        (last ? `, ${last.mean_fps} frames/s each, ${last.machine_share * 100} % of the machine\n` : "\n"),
    );
  }
  process.stdout.write(`${JSON.stringify({ app: values.app, processors: availableParallelism(), capacity: result })}\n`);
}

await main();
