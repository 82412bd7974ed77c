/** A full installation: who comes next sees his place in the queue, and plays when somebody leaves. */

import assert from "node:assert/strict";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { ROOT, WIDE_LIMITS, newDirectory, probePackage, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { cleanSlate, leave, openPlay, playing } from "../lib/play.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");
const small = { width: 640, height: 360, framesPerSecond: 30 };

before(async () => {
  probePackage("probe-x11", directory);
  kite = await startKite({ games: [directory], sessions: 1, config: `${WIDE_LIMITS}offer_s = 5\n` });
  browser = await launchChromium();
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function inState(page: Page, state: string): Promise<void> {
  await page.locator(`[data-state="${state}"]`).waitFor({ timeout: 20_000 });
}

async function place(page: Page): Promise<string> {
  return (await page.locator(".kite-queue-place").textContent({ timeout: 10_000 })) ?? "";
}

test("the next ones see their place, move up, and play when their turn comes", async () => {
  const first = await openPlay(browser, kite, "probe-x11", small);
  await playing(first);
  const second = await openPlay(browser, kite, "probe-x11", small);
  await inState(second, "queued");
  const third = await openPlay(browser, kite, "probe-x11", small);
  await inState(third, "queued");
  assert.deepEqual([await place(second), await place(third)], ["1", "2"]);
  const text = (await third.locator(".kite-screen").textContent()) ?? "";
  assert.match(text, /All places are taken\. You are number 2\. It will take .*minute/);
  assert.match(await third.title(), /^Waiting: /);
  const pictures = join(ROOT, "e2e", "results");
  mkdirSync(pictures, { recursive: true });
  await third.screenshot({ path: join(pictures, "queue.png") });

  await leave(first);
  // Nobody has to click: the page is in sight.
  await playing(second);
  await third.locator('.kite-queue-place:has-text("1")').waitFor({ timeout: 10_000 });
  await leave(second);
  await playing(third);
});

test("who leaves the queue makes room in it, and a page that comes back keeps its place", async () => {
  const first = await openPlay(browser, kite, "probe-x11", small);
  await playing(first);
  const [second, third] = [await openPlay(browser, kite, "probe-x11", small), await openPlay(browser, kite, "probe-x11", small)];
  for (const page of [second, third]) await inState(page, "queued");
  const [ahead, behind] = (await place(second)) === "1" ? [second, third] : [third, second];
  await ahead.reload();
  await inState(ahead, "queued");
  assert.equal(await place(ahead), "1");
  await leave(ahead);
  await behind.locator('.kite-queue-place:has-text("1")').waitFor({ timeout: 10_000 });
});

test("who looks away loses his turn to the next", async () => {
  const first = await openPlay(browser, kite, "probe-x11", small);
  await playing(first);
  // What a page in a background tab sees of itself.
  const hidden = 'Object.defineProperty(document, "visibilityState", { get: () => "hidden" })';
  const away = await openPlay(browser, kite, "probe-x11", { ...small, script: hidden });
  await inState(away, "queued");
  const next = await openPlay(browser, kite, "probe-x11", small);
  await inState(next, "queued");
  await leave(first);
  await inState(away, "offered");
  assert.match(await away.title(), /^Your turn: /);
  await away.locator(".kite-accept").waitFor();
  await playing(next);
  await away.locator('[data-reason="offer_lapsed"]').waitFor({ timeout: 10_000 });
});
