/** A play in Debian's Firefox, which offers no H.264 as it comes: picture, keys, statistics. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Browser, Page } from "puppeteer-core";

import { launchFirefox } from "../lib/firefox.ts";
import { newDirectory, probePackage, ROOT, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { difference, GRID_WIDTH, pictureOf } from "../lib/picture.ts";
import { statistics } from "../lib/play.ts";
import { until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-wayland", directory);
  // Firefox makes no connection by the loopback: the machine's own address is what it is told.
  const address = Object.values(networkInterfaces()).flat().find((own) => own?.family === "IPv4" && !own.internal)?.address;
  assert.ok(address !== undefined, "this machine has no network address but the loopback's");
  kite = await startKite({ games: [directory, join(ROOT, "games")], arguments: [`--advertise=${address}`] });
  browser = await launchFirefox();
});

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function open(app: string): Promise<Page> {
  const page = await browser.newPage();
  await page.goto(`${kite.base}/play/${app}?autostart=1&width=1280&height=720&fps=60`);
  await page.waitForSelector('[data-state="playing"]', { timeout: 30_000 });
  await until("a picture", async () => (await pictureOf(page))?.rgb.some((value) => value > 24));
  return page;
}

test("firefox shows the probe in VP8, and a key press toggles it", async () => {
  const page = await open("probe-wayland");
  // The block is the last twentieth of the width, and begins below the strip.
  const block = async (): Promise<number> => {
    const picture = await pictureOf(page);
    return picture?.rgb[(8 * GRID_WIDTH + 93) * 3] ?? -1;
  };
  const before = await block();
  await page.keyboard.press("KeyK");
  await until("the other colour", async () => Math.abs((await block()) - before) > 100);
  await page.keyboard.press("KeyK");
  await until("the first colour", async () => Math.abs((await block()) - before) < 60);
  const figures = await until("statistics", async () => {
    const now = await statistics(page);
    return now && now.framesPerSecond > 0 ? now : undefined;
  });
  assert.match(figures.codec ?? "", /VP8/i);
  await page.close();
});

test("firefox plays doom: Enter opens the menu", async () => {
  const page = await open("chocolate-doom");
  const title = await pictureOf(page);
  assert.ok(title);
  await page.keyboard.press("Enter");
  await until("the menu", async () => {
    const now = await pictureOf(page);
    return now && difference(title, now) > 3;
  });
  await page.close();
});
