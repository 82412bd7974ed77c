/** Measures one product at one format: opens its page, presses keys, watches the picture. */

import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import type { Browser, CDPSession, Page } from "playwright-core";

import { NAME_HELPER } from "e2e/lib/browser.ts";
import type { Press, Shown } from "e2e/lib/probe-page.ts";
import { PROBE_KEY, probeScript, take, toggles } from "e2e/lib/probe.ts";
import { until } from "e2e/lib/programs.ts";
import type { Format } from "e2e/lib/session.ts";

import { seeded } from "../lib/percentiles.ts";
import { cpuBetween, tree } from "../lib/processes.ts";
import type { Usage } from "../lib/processes.ts";
import type { Product, Running } from "../products/product.ts";

/** After this an input counts as lost. A connection that needs longer is broken, not slow. */
const LOST_AFTER_MS = 1500;
/** Every process whose name begins so is the measured application, not the product. */
const PROBE_NAME = "probe-";

/** What a measurement needs to know. */
export interface Plan {
  readonly presses: number;
  readonly seed: number;
  /** Time for encoders, rate control and the browser's decoder to settle. */
  readonly warmUpMs: number;
}

/** One press and the frame that first showed it, in milliseconds of the page's clock. */
export interface Answer {
  readonly press: Press;
  readonly shown: Shown;
}

/** Everything that was seen, before it is judged. */
export interface Observation {
  readonly product: string;
  readonly format: Format;
  readonly answers: readonly Answer[];
  readonly lost: number;
  readonly shown: readonly Shown[];
  /** By the page's clock: the time in which frames were looked at. */
  readonly shownSeconds: number;
  /** The time over which CPU and bytes were counted. */
  readonly seconds: number;
  /** Page clock + this = CLOCK_MONOTONIC in milliseconds. */
  readonly pageToMonotonicMs: number;
  readonly cpuS: ReadonlyMap<string, number>;
  readonly displayNames: readonly string[];
  readonly browserCpuS: number;
  readonly memoryBytes: ReadonlyMap<string, number>;
  readonly bytes: number;
  readonly bytesBy: string;
  readonly loadBefore: number;
  readonly loadAfter: number;
  readonly animationFrames: number;
  readonly longestAnimationGapMs: number;
  readonly unreadable: number;
  readonly lookMs: number;
  readonly source: string;
  readonly ownFigures: Readonly<Record<string, number>>;
}

/** Page clock to CLOCK_MONOTONIC: Chromium's ticks are that clock, and it tells when the page's clock was zero. */
async function pageToMonotonicMs(session: CDPSession): Promise<number> {
  await session.send("Performance.enable", { timeDomain: "timeTicks" });
  const { metrics } = await session.send("Performance.getMetrics");
  const start = metrics.find((metric) => metric.name === "NavigationStart")?.value;
  if (start === undefined) throw new Error("Chromium does not say when the navigation began");
  return start * 1000;
}

async function pressKey(session: CDPSession): Promise<void> {
  await session.send("Input.dispatchKeyEvent", { type: "keyDown", text: PROBE_KEY.key, ...PROBE_KEY });
  await session.send("Input.dispatchKeyEvent", { type: "keyUp", ...PROBE_KEY });
}

/** Presses keys at random moments; returns how many were never seen. */
async function pressMany(page: Page, session: CDPSession, plan: Plan): Promise<number> {
  const random = seeded(plan.seed);
  let expected = await toggles(page);
  let lost = 0;
  for (let index = 0; index < plan.presses; index++) {
    await pressKey(session);
    expected++;
    await sleep(200 + 200 * random());
    for (const deadline = Date.now() + LOST_AFTER_MS; (await toggles(page)) < expected; await sleep(20)) {
      if (Date.now() < deadline) continue;
      lost++;
      expected = await toggles(page);
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

async function steady(page: Page): Promise<void> {
  await until("a readable picture of the probe", async () => (await toggles(page)) >= 0, 40_000);
  await until("keys that reach the probe", async () => {
    const before = await toggles(page);
    await page.keyboard.press(PROBE_KEY.code);
    await sleep(300);
    return (await toggles(page)) > before;
  });
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
async function observe(page: Page, running: Running, product: string, format: Format, plan: Plan): Promise<Observation> {
  await page.addInitScript({ content: `${await probeScript()}\n${running.script ?? ""}` });
  await page.goto(running.url, { waitUntil: "domcontentloaded" });
  await sleep(1500);
  await running.prepare(page);
  await steady(page);
  await sleep(plan.warmUpMs);
  const session = await page.context().newCDPSession(page);
  await take(page);

  const [before, browserBefore, loadBefore] = [tree(running.roots), await browserCpuS(page), loadavg()[0] ?? 0];
  const [trafficBefore, beganMs] = [await running.traffic(page), performance.now()];
  const lost = await pressMany(page, session, plan);
  const seconds = (performance.now() - beganMs) / 1000;
  const [after, browserAfter, traffic] = [tree(running.roots), await browserCpuS(page), await running.traffic(page)];
  const recording = await take(page);

  const isProduct = (usage: Usage): boolean => !usage.name.startsWith(PROBE_NAME);
  return {
    product,
    format,
    answers: pair(recording.presses, recording.shown),
    lost,
    shown: recording.shown,
    shownSeconds: recording.spanMs / 1000,
    seconds,
    pageToMonotonicMs: await pageToMonotonicMs(session),
    cpuS: cpuBetween(before.filter(isProduct), after.filter(isProduct)),
    displayNames: running.displayNames,
    browserCpuS: browserAfter - browserBefore,
    memoryBytes: memory(after.filter(isProduct)),
    bytes: traffic.bytes - trafficBefore.bytes,
    bytesBy: traffic.by,
    loadBefore,
    loadAfter: loadavg()[0] ?? 0,
    animationFrames: recording.animationFrames,
    longestAnimationGapMs: recording.longestAnimationGapMs,
    unreadable: recording.unreadable,
    lookMs: recording.lookMs,
    source: recording.source,
    ownFigures: (await running.ownFigures?.(page)) ?? {},
  };
}

/** Starts the product, watches it in a page of its own, stops it. */
export async function measure(
  browser: Browser,
  product: Product,
  format: Format,
  plan: Plan,
  directory: string,
): Promise<Observation> {
  const running = await product.start(format, directory);
  const context = await browser.newContext({ viewport: { width: format.width, height: format.height } });
  await context.addInitScript({ content: NAME_HELPER });
  const page = await context.newPage();
  const console: string[] = [];
  page.on("console", (message) => console.push(message.text()));
  page.on("pageerror", (error) => console.push(`error: ${error.message}`));
  try {
    return await observe(page, running, product.name, format, plan);
  } catch (error) {
    await page.screenshot({ path: join(directory, "failure.png") });
    throw error;
  } finally {
    writeFileSync(join(directory, "console.log"), console.join("\n"));
    await context.close();
    await running.stop();
  }
}
