/** A real game in real Chromium: it starts at once, Enter starts it, the mouse turns the view, there is sound. */

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium, NAME_HELPER } from "../lib/browser.ts";
import { startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { difference } from "../lib/picture.ts";
import { changed, cleanSlate, leave, look, loudness, openPlay, playing, restlessness } from "../lib/play.ts";
import { until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;

before(async () => {
  kite = await startKite();
  browser = await launchChromium();
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
});

/** From the title to the first level: a menu, the new game, a skill. */
async function startDoom(page: Page): Promise<void> {
  await playing(page);
  const title = await look(page);
  await page.keyboard.press("Enter");
  const menu = await changed(page, title, 4);
  await page.keyboard.press("Enter");
  const skills = await changed(page, menu, 2);
  await page.keyboard.press("Enter");
  await changed(page, skills, 12);
  // The level's picture melts in for about a second.
  await page.waitForTimeout(2500);
}

test("doom: Enter starts the game, the mouse turns the view, sound has energy", async () => {
  const page = await openPlay(browser, kite, "chocolate-doom");
  await startDoom(page);

  // The game wants the mouse held, and a browser holds it after a click.
  await page.mouse.click(640, 360);
  await until("the held mouse", () => page.evaluate("document.pointerLockElement !== null"));
  await page.waitForTimeout(1000);
  const rest = await restlessness(page);
  const ahead = await look(page);
  for (let step = 1; step <= 20; step++) {
    await page.mouse.move(640 + step * 20, 360);
    await page.waitForTimeout(16);
  }
  const turned = await changed(page, ahead, Math.max(6, rest * 2));
  assert.ok(difference(ahead, turned) > rest, "the view turned more than the game moves by itself");

  const loud = await until("sound", async () => {
    const level = await loudness(page, 500);
    return level > 0.001 ? level : undefined;
  });
  assert.ok(loud < 1, `${loud} is within full scale`);
  await leave(page);
});

test("doom: a warm start from the click to the first frame takes less than 1.5 s", async () => {
  const times: number[] = [];
  for (let round = 0; round < 4; round++) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 720 } });
    await context.addInitScript({ content: NAME_HELPER });
    const page = await context.newPage();
    await page.goto(`${kite.base}/play/chocolate-doom`);
    const play = page.getByRole("button", { name: "Play" });
    await play.waitFor();
    // Of the page's own clock: from the click's event to the first frame that the player shows.
    const elapsed = await page.evaluate(
      () =>
        new Promise<number>((resolve) => {
          let clickedMs = 0;
          addEventListener("click", (event) => (clickedMs = event.timeStamp), { capture: true, once: true });
          const look = (): void => {
            const player = (window as unknown as { kitePlayer?: { on(event: "frame", then: () => void): void } }).kitePlayer;
            if (player) player.on("frame", () => resolve(performance.now() - clickedMs));
            else requestAnimationFrame(look);
          };
          look();
          document.querySelector<HTMLButtonElement>("button[type=submit]")?.click();
        }),
    );
    times.push(elapsed);
    await playing(page);
    await leave(page);
  }
  // The first one is not warm.
  const warm = times.slice(1).toSorted((a, b) => a - b);
  assert.ok((warm[1] ?? Infinity) < 1500, `click to first frame: ${times.map((ms) => ms.toFixed(0)).join(", ")} ms`);
});

for (const app of ["armagetronad", "extremetuxracer"]) {
  test(`${app}: shows its menu and answers keys`, async () => {
    const page = await openPlay(browser, kite, app);
    await playing(page, 60_000);
    await page.waitForTimeout(3000);
    const rest = await restlessness(page);
    const menu = await look(page);
    await page.mouse.click(640, 360);
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await changed(page, menu, Math.max(2, rest * 1.5));
    await leave(page);
  });
}
