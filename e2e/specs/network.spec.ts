/** Bad networks: a cut of five seconds, three percent of loss, a narrow bottleneck. The proxy is in the way of all media. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { impair } from "../lib/impair.ts";
import type { Impairment } from "../lib/impair.ts";
import { newDirectory, probePackage, startKite, WIDE_LIMITS } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { cleanSlate, leave, openPlay, playing, statistics } from "../lib/play.ts";
import { PROBE_KEY, probeScript, take, toggles } from "../lib/probe.ts";
import { freePort, until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
let path: Impairment;
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-wayland", directory);
  // One session at a time, so that its media port is known and a port mapping (the proxy) can stand before it.
  const [mediaPort, proxyPort] = [await freePort(), await freePort()];
  path = await impair(proxyPort, mediaPort);
  kite = await startKite({
    games: [directory],
    mediaPorts: [mediaPort, mediaPort],
    config: `${WIDE_LIMITS}[network]\nadvertise_port = ${proxyPort}\n`,
  });
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  await kite?.stop();
  path?.stop();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  path.set("both delay=0 loss=0 rate=0 cut=0");
  await cleanSlate(browser, kite);
});

async function open(): Promise<Page> {
  const page = await openPlay(browser, kite, "probe-wayland", { script: await probeScript() });
  await playing(page);
  await until("a readable strip", async () => (await toggles(page)) >= 0);
  return page;
}

test("a network that is cut for five seconds comes back to the same game", async () => {
  const page = await open();
  await page.keyboard.press(PROBE_KEY.code);
  await page.waitForTimeout(500);
  const before = await toggles(page);
  path.set("both cut=1");
  await page.waitForTimeout(5000);
  path.set("both cut=0");
  const cutEndedMs = Date.now();
  await take(page);
  await until("new pictures", async () => (await take(page)).shown.length > 30, 15_000, 1000);
  const backAfterMs = Date.now() - cutEndedMs;
  assert.equal(await page.locator('[data-state="playing"]').count(), 1);
  assert.equal(await toggles(page), before, "the same game, with the same inputs");
  await page.keyboard.press(PROBE_KEY.code);
  await until("a toggle after the cut", async () => (await toggles(page)) === before + 1);
  assert.ok(backAfterMs < 8000, `pictures ${backAfterMs} ms after the cut`);
  await leave(page);
});

test("3 % loss at 50 ms round trip: no freeze over 500 ms, no damaged picture", async () => {
  path.set("both delay=25 loss=0.03");
  const page = await open();
  await page.waitForTimeout(3000);
  await take(page);
  await page.waitForTimeout(20_000);
  const { shown, unreadable, animationFrames } = await take(page);
  const gaps = shown.slice(1).map((frame, index) => frame.atMs - (shown[index]?.atMs ?? 0));
  const longest = Math.max(...gaps);
  assert.ok(longest < 500, `longest freeze ${longest.toFixed(0)} ms`);
  assert.ok(unreadable <= animationFrames * 0.01, `${unreadable} of ${animationFrames} looks saw a damaged strip`);
  assert.ok(shown.length > 20 * 20, `${shown.length} frames in 20 s`);
  await leave(page);
});

test("a bottleneck of 2 Mbit/s under a stream of 8: settled within five seconds, no growing delay", async () => {
  const page = await open();
  await page.waitForTimeout(8000);
  path.set("down rate=2000 queue=256");
  await page.waitForTimeout(5000);
  const settled = await statistics(page);
  assert.ok(settled && settled.bitrateKbps < 2000, `${settled?.bitrateKbps} kbit/s five seconds after the bottleneck`);
  const ages: number[] = [];
  for (let second = 0; second < 20; second++) {
    await page.waitForTimeout(1000);
    ages.push((await statistics(page))?.latency.frameAgeMs?.median ?? Number.NaN);
  }
  const [early, late] = [ages.slice(2, 7), ages.slice(-5)].map((part) => part.toSorted((a, b) => a - b)[2] ?? Infinity);
  assert.ok((late ?? Infinity) < 250, `frame age ${ages.map((ms) => ms.toFixed(0)).join(" ")} ms`);
  assert.ok((late ?? Infinity) < (early ?? 0) + 60, `frame age does not grow: ${ages.map((ms) => ms.toFixed(0)).join(" ")} ms`);
  await leave(page);
});
