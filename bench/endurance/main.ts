/**
 * `./x bench endurance [--minutes N] [--display x11|wayland]`
 *
 * One long session on a real display: does the picture get older, does memory grow? Every minute is counted on its own; the last one is
 * compared with the first. The last line of standard output is one JSON object.
 */

import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import type { Format } from "e2e/lib/session.ts";

import { percentile, rounded } from "../lib/percentiles.ts";
import { isProbe, tree } from "../lib/processes.ts";
import { newResults } from "../lib/results.ts";
import { ageMs, openScene, openScreen, steady } from "../lib/screen.ts";
import type { Camera } from "../lib/screen.ts";
import { kite } from "../products/kite.ts";

const FORMAT: Format = { width: 1280, height: 720, framesPerSecond: 60 };
/** Time for encoder, rate control and the browser's decoder to settle before the first minute. */
const WARM_UP_MS = 10_000;
const MINUTE_MS = 60_000;
/** A key now and then: a player who does nothing is no player. */
const PRESS_EVERY_MS = 2000;

/** What one minute was like. */
interface Minute {
  readonly frame_age_ms: number;
  readonly frame_age_p95_ms: number;
  readonly fps: number;
  /** Proportional set size of Kite with its display and sound servers, without the probe. */
  readonly memory_mb: number;
  readonly browser_memory_mb: number;
  readonly load: number;
}

/** Names of a browser's processes. */
const isBrowser = (name: string): boolean => name.startsWith("chrom");

function megabytes(roots: readonly number[], counts: (name: string) => boolean): number {
  const bytes = tree(roots).filter(({ name }) => counts(name)).reduce((sum, usage) => sum + usage.proportionalBytes, 0);
  return rounded(bytes / 2 ** 20);
}

async function minute(camera: Camera, roots: readonly number[]): Promise<Minute> {
  camera.take();
  const beganMs = performance.now();
  while (performance.now() - beganMs < MINUTE_MS) {
    camera.press();
    await sleep(PRESS_EVERY_MS);
  }
  const seconds = (performance.now() - beganMs) / 1000;
  const { shown } = camera.take();
  const ages = shown.map(ageMs);
  return {
    frame_age_ms: rounded(percentile(ages, 50)),
    frame_age_p95_ms: rounded(percentile(ages, 95)),
    fps: rounded(shown.length / seconds),
    memory_mb: megabytes(roots, (name) => !isProbe(name)),
    browser_memory_mb: megabytes([process.pid], isBrowser),
    load: rounded(loadavg()[0] ?? 0, 2),
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { minutes: { type: "string", default: "60" }, display: { type: "string", default: "x11" } },
  });
  const { minutes: wanted, display } = { minutes: Number(values.minutes), display: values.display };
  if (display !== "x11" && display !== "wayland") throw new Error("the display is x11 or wayland");
  if (!(wanted >= 2)) throw new Error("at least two minutes: the last one is compared with the first");
  const results = newResults("endurance");

  const screen = await openScreen(FORMAT, results);
  const running = await kite(display).start(FORMAT, results);
  const scene = await openScene(screen, FORMAT, [], results);
  const minutes: Minute[] = [];
  try {
    await scene.page.goto(running.url, { waitUntil: "domcontentloaded" });
    await running.prepare(scene.page);
    await steady(scene.camera, FORMAT);
    await sleep(WARM_UP_MS);
    while (minutes.length < wanted) {
      minutes.push(await minute(scene.camera, running.roots));
      writeFileSync(join(results, "minutes.json"), JSON.stringify(minutes, undefined, 1));
      process.stderr.write(`${minutes.length} of ${wanted}: ${JSON.stringify(minutes.at(-1))}\n`);
    }
  } finally {
    await scene.close();
    await running.stop();
    await screen.stop();
  }
  const [first, last] = [minutes[0], minutes.at(-1)];
  if (!first || !last) throw new Error("no minute was measured");
  const over = (of: keyof Minute): number => rounded(last[of] / first[of], 3);
  const ratios = {
    frame_age: over("frame_age_ms"),
    fps: over("fps"),
    memory: over("memory_mb"),
    browser_memory: over("browser_memory_mb"),
  };
  process.stdout.write(`every minute: ${results}/minutes.json\n${JSON.stringify({ display, minutes: wanted, first, last, last_over_first: ratios })}\n`);
}

await main();
