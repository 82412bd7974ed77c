/** Measures one product at one format: opens its page, presses keys, watches the display. */

import { loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import type { Page } from "playwright-core";

import type { Format } from "e2e/lib/session.ts";

import { seeded } from "../lib/percentiles.ts";
import { cpuBetween, isProbe, tree } from "../lib/processes.ts";
import type { Usage } from "../lib/processes.ts";
import type { Display, Product, Running } from "../products/product.ts";
import { KEEP_PEERS } from "../products/traffic.ts";
import { openScene, openScreen, steady } from "../lib/screen.ts";
import type { Camera, Press, Screen, Shown } from "../lib/screen.ts";

/** After this an input counts as lost. A connection that needs longer is broken, not slow. */
const LOST_AFTER_MS = 1500;

/** What a measurement needs to know. */
export interface Plan {
  readonly presses: number;
  readonly seed: number;
  /** Time for encoders, rate control and the browser's decoder to settle. */
  readonly warmUpMs: number;
}

/** One press and the frame that first showed it, in milliseconds of CLOCK_MONOTONIC. */
export interface Answer {
  readonly press: Press;
  readonly shown: Shown;
}

/** Everything that was seen, before it is judged. */
export interface Observation {
  readonly product: string;
  readonly display: Display;
  readonly format: Format;
  readonly answers: readonly Answer[];
  readonly lost: number;
  readonly shown: readonly Shown[];
  /** The time over which frames, CPU and bytes were counted. */
  readonly seconds: number;
  readonly cpuS: ReadonlyMap<string, number>;
  readonly displayNames: readonly string[];
  readonly browserCpuS: number;
  readonly memoryBytes: ReadonlyMap<string, number>;
  readonly bytes: number;
  readonly bytesBy: string;
  readonly loadBefore: number;
  readonly loadAfter: number;
  readonly ownFigures: Readonly<Record<string, number>>;
}

/** Presses keys at random moments; returns how many were never seen. */
async function pressMany(camera: Camera, plan: Plan): Promise<number> {
  const random = seeded(plan.seed);
  let expected = camera.toggles();
  let lost = 0;
  for (let index = 0; index < plan.presses; index++) {
    camera.press();
    expected++;
    await sleep(200 + 200 * random());
    for (const deadline = Date.now() + LOST_AFTER_MS; camera.toggles() < expected; await sleep(20)) {
      if (Date.now() < deadline) continue;
      lost++;
      expected = camera.toggles();
      break;
    }
  }
  return lost;
}

/** Pairs each press with the first frame that shows one toggle more than the frame before the press. */
export function pair(presses: readonly Press[], shown: readonly Shown[]): Answer[] {
  const answers: Answer[] = [];
  let index = 0;
  for (const [number, press] of presses.entries()) {
    while (index < shown.length && (shown[index]?.atMs ?? 0) <= press.atMs) index++;
    const before = shown[index - 1];
    const limit = Math.min(presses[number + 1]?.atMs ?? Infinity, press.atMs + LOST_AFTER_MS);
    for (let later = index; before && later < shown.length; later++) {
      const frame = shown[later];
      if (!frame || frame.atMs > limit) break;
      if (frame.toggles === (before.toggles + 1) % 256) {
        answers.push({ press, shown: frame });
        break;
      }
    }
  }
  return answers;
}

/** Memory by process name. */
function memory(usages: readonly Usage[]): Map<string, number> {
  const result = new Map<string, number>();
  for (const usage of usages) result.set(usage.name, (result.get(usage.name) ?? 0) + usage.proportionalBytes);
  return result;
}

/** CPU time of all of Chromium's processes. */
async function browserCpuS(page: Page): Promise<number> {
  const session = await page.context().browser()?.newBrowserCDPSession();
  if (!session) throw new Error("the browser is gone");
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  return processInfo.reduce((sum, process) => sum + process.cpuTime, 0);
}

/** Watches a product that runs. */
async function observe(page: Page, camera: Camera, running: Running, product: Product, format: Format, plan: Plan): Promise<Observation> {
  await steady(camera, format);
  await sleep(plan.warmUpMs);

  const [before, browserBefore, loadBefore] = [tree(running.roots), await browserCpuS(page), loadavg()[0] ?? 0];
  const trafficBefore = await running.traffic(page);
  camera.take();
  const beganMs = performance.now();
  const lost = await pressMany(camera, plan);
  const seconds = (performance.now() - beganMs) / 1000;
  const { shown, presses } = camera.take();
  const [after, browserAfter, traffic] = [tree(running.roots), await browserCpuS(page), await running.traffic(page)];

  const isProduct = (usage: Usage): boolean => !isProbe(usage.name);
  return {
    product: product.name,
    display: product.display,
    format,
    answers: pair(presses, shown),
    lost,
    shown,
    seconds,
    cpuS: cpuBetween(before.filter(isProduct), after.filter(isProduct)),
    displayNames: running.displayNames,
    browserCpuS: browserAfter - browserBefore,
    memoryBytes: memory(after.filter(isProduct)),
    bytes: traffic.bytes - trafficBefore.bytes,
    bytesBy: traffic.by,
    loadBefore,
    loadAfter: loadavg()[0] ?? 0,
    ownFigures: (await running.ownFigures?.(page)) ?? {},
  };
}

/** Opens the product's page on the screen and watches it. */
async function watch(screen: Screen, running: Running, product: Product, format: Format, plan: Plan, directory: string): Promise<Observation> {
  const { page, camera, close } = await openScene(screen, format, [KEEP_PEERS], directory);
  try {
    await page.goto(running.url, { waitUntil: "domcontentloaded" });
    await running.prepare(page);
    return await observe(page, camera, running, product, format, plan);
  } catch (error) {
    await page.screenshot({ path: join(directory, "failure.png") });
    throw error;
  } finally {
    await close();
  }
}

/** Starts the product, watches it on a screen and in a browser of its own, stops it: no round inherits anything of another. */
export async function measure(product: Product, format: Format, plan: Plan, directory: string): Promise<Observation> {
  const screen = await openScreen(format, directory);
  try {
    const running = await product.start(format, directory);
    try {
      return await watch(screen, running, product, format, plan, directory);
    } finally {
      await running.stop();
    }
  } finally {
    await screen.stop();
  }
}
