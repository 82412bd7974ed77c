/** An ordinary SDL program inside the sandbox sees the buttons and axes of the pad that the browser has. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, ROOT, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { GRID_HEIGHT, GRID_WIDTH } from "../lib/picture.ts";
import { cleanSlate, look, openPlay, playing } from "../lib/play.ts";
import { until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");

/** No real pad can be plugged into a browser without a window: this is the browser's own interface, with a pad behind it. */
const PAD_SCRIPT = `
  window.testPad = { id: "Test pad (STANDARD GAMEPAD)", index: 0, connected: true, mapping: "standard", timestamp: 0,
    axes: [0, 0, 0, 0], buttons: Array.from({ length: 17 }, () => ({ pressed: false, touched: false, value: 0 })),
    vibrationActuator: { playEffect: async (kind, effect) => { (window.rumbles ??= []).push(effect); return "complete"; }, reset: async () => "complete" } };
  navigator.getGamepads = () => [{ ...window.testPad, buttons: window.testPad.buttons.map((button) => ({ ...button })) }];
`;

before(async () => {
  const place = join(directory, "pads");
  mkdirSync(place);
  const flags = execFileSync("sdl2-config", ["--cflags", "--libs"], { encoding: "utf8" }).trim().split(/\s+/);
  execFileSync("cc", ["-O1", "-o", join(place, "pads"), join(ROOT, "e2e/programs/pads.c"), ...flags]);
  writeFileSync(
    join(place, "kite.toml"),
    'name = "pads"\ntitle = "Pads"\nsummary = "Shows what it sees of its pad."\ndisplay = "wayland"\n' +
      '[launch]\ncommand = ["<base>/pads"]\nenvironment = { SDL_VIDEODRIVER = "wayland" }\n[input]\ngamepads = 1\n' +
      "[limits]\nmemory_mb = 256\ncpus = 1.0\nprocesses = 32\n",
  );
  kite = await startKite({ games: [directory] });
  browser = await launchChromium();
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** Brightness of the eight cells. */
async function cells(page: Page): Promise<number[]> {
  const picture = await look(page);
  return [0, 1, 2, 3, 4, 5, 6, 7].map((index) => {
    const x = Math.floor((((index % 4) + 0.5) * GRID_WIDTH) / 4);
    const y = Math.floor(((Math.floor(index / 4) + 0.5) * GRID_HEIGHT) / 2);
    return picture.rgb[(y * GRID_WIDTH + x) * 3] ?? -1;
  });
}

async function set(page: Page, change: { button?: [number, number]; axis?: [number, number] }): Promise<void> {
  await page.evaluate(({ button, axis }) => {
    interface TestPad { timestamp: number; axes: number[]; buttons: { pressed: boolean; touched: boolean; value: number }[] }
    const pad = (window as unknown as { testPad: TestPad }).testPad;
    pad.timestamp = performance.now();
    if (button) pad.buttons[button[0]] = { pressed: button[1] > 0.5, touched: button[1] > 0, value: button[1] };
    if (axis) pad.axes[axis[0]] = axis[1];
  }, change);
}

async function expect(page: Page, what: string, index: number, wanted: number): Promise<void> {
  await until(what, async () => Math.abs(((await cells(page))[index] ?? -1000) - wanted) < 24, 5000).catch(async () => {
    assert.fail(`${what}: cell ${index} should be ${wanted}; cells are ${(await cells(page)).join(" ")}`);
  });
}

test("an SDL program sees the pad, its buttons, its axes, and its rumble comes back", async () => {
  const page = await openPlay(browser, kite, "pads", { script: PAD_SCRIPT });
  await page.locator('[data-state="playing"]').waitFor({ timeout: 30_000 });
  await page.evaluate(() => {
    const pad = (window as unknown as { testPad: Gamepad }).testPad;
    dispatchEvent(new GamepadEvent("gamepadconnected", { gamepad: navigator.getGamepads()[0] ?? pad }));
  }).catch(() => undefined);
  await playing(page).catch(() => undefined);
  // A pad shows itself with its first button.
  await set(page, { button: [0, 1] });
  await expect(page, "the pad is there", 0, 255);
  await expect(page, "button A is down", 1, 255);
  await set(page, { button: [0, 0] });
  await expect(page, "button A is up", 1, 0);
  await set(page, { button: [2, 1] });
  await expect(page, "button X is down", 2, 255);
  await set(page, { button: [2, 0] });
  await set(page, { axis: [0, -1] });
  await expect(page, "left stick to the left", 4, 0);
  await set(page, { axis: [0, 1] });
  await expect(page, "left stick to the right", 4, 255);
  await set(page, { axis: [0, 0] });
  await expect(page, "left stick in the middle", 4, 128);
  await set(page, { axis: [1, 1] });
  await expect(page, "left stick down", 5, 255);
  await set(page, { axis: [2, -1] });
  await expect(page, "right stick to the left", 6, 0);
  await set(page, { button: [7, 1] });
  await expect(page, "right trigger pulled", 7, 255);
  await set(page, { button: [9, 1] });
  await expect(page, "start is down", 3, 255);
  await until("rumble", () => page.evaluate(() => ((window as unknown as { rumbles?: unknown[] }).rumbles ?? []).length > 0));
  await page.context().close();
});
