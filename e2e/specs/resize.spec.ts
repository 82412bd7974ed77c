/** The stream follows the window, live, and the game follows the stream. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";

import type { Browser } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, probePackage, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { pictureOf } from "../lib/picture.ts";
import { cleanSlate, openPlay, playing } from "../lib/play.ts";
import { PROBE_KEY, probeScript, take, toggles } from "../lib/probe.ts";
import { until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-x11", directory);
  probePackage("probe-wayland", directory);
  kite = await startKite({ games: [directory] });
  browser = await launchChromium();
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

for (const app of ["probe-x11", "probe-wayland"]) {
  test(`${app}: the stream has the window's shape after it changed, and plays on`, async () => {
    const viewport = { width: 1280, height: 720 };
    const page = await openPlay(browser, kite, app, { fixed: false, viewport, script: await probeScript() });
    await playing(page);
    await until("a readable strip", async () => (await toggles(page)) >= 0);
    for (const [width, height] of [
      [960, 600],
      [640, 480],
      [1280, 720],
    ] as const) {
      await page.setViewportSize({ width, height });
      await until(`a picture of ${width} x ${height}`, async () => {
        const picture = await pictureOf(page);
        return picture?.width === width && picture.height === height;
      });
      // The strip is as wide as the game's own window: it is readable only when the game has the new size too.
      await take(page);
      await until("frames of the new size", async () => (await take(page)).shown.length > 10, 10_000, 500);
      const before = await toggles(page);
      await page.keyboard.press(PROBE_KEY.code);
      await until("a toggle", async () => (await toggles(page)) === before + 1);
    }
    assert.equal(await page.locator('[data-state="playing"]').count(), 1);
    await page.context().close();
  });
}
