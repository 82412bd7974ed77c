/** A real display with a browser on it, a camera in front of it and a finger on its keyboard (`crates/probe`'s `probe-screen`). */

import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { chromium } from "playwright-core";
import type { Browser, Page } from "playwright-core";

import { CHROMIUM_FLAGS, NAME_HELPER } from "e2e/lib/browser.ts";
import { binary } from "e2e/lib/kite.ts";
import { start, until } from "e2e/lib/programs.ts";
import type { Program } from "e2e/lib/programs.ts";
import type { Format } from "e2e/lib/session.ts";
import { COMMITTED_MODULUS_MS } from "e2e/lib/strip.ts";
import type { Strip } from "e2e/lib/strip.ts";

import { freeDisplay } from "./displays.ts";

/** Room on the display for the browser's own bars. */
const BARS = 200;

/** A new frame of the probe, when the display had it, in milliseconds of CLOCK_MONOTONIC. */
export interface Shown extends Strip {
  readonly atMs: number;
}

/** A key press, by the same clock. */
export interface Press {
  readonly atMs: number;
}

/** An X display of its own with a browser. */
export interface Screen {
  readonly browser: Browser;
  readonly display: number;
  stop(): Promise<void>;
}

/** What the camera saw. */
export interface Camera {
  /** Everything since the last call. */
  take(): { readonly shown: Shown[]; readonly presses: Press[] };
  /** Inputs that the picture has shown since the camera began, not wrapping; -1 before the first readable frame. */
  toggles(): number;
  press(): void;
  /** In pixels of the page. */
  click(x: number, y: number): void;
  stop(): Promise<void>;
}

/** Starts an X server and a browser with a window on it. */
export async function openScreen(format: Format, directory: string): Promise<Screen> {
  const display = freeDisplay();
  const size = `${format.width + BARS}x${format.height + BARS}x24`;
  const server: Program = start({
    name: "the browser's display",
    command: "Xvfb",
    arguments: [`:${display}`, "-screen", "0", size, "-nolisten", "tcp"],
    log: join(directory, "browser-display.log"),
  });
  try {
    await until("the browser's display", () => existsSync(`/tmp/.X11-unix/X${display}`));
    const browser = await chromium.launch({
      executablePath: process.env["KITE_CHROMIUM"] ?? "/usr/bin/chromium",
      headless: false,
      env: { ...process.env, DISPLAY: `:${display}` } as Record<string, string>,
      args: [...CHROMIUM_FLAGS, "--window-position=0,0"],
    });
    return {
      browser,
      display,
      async stop() {
        await browser.close();
        await server.stop();
      },
    };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

/** Makes the page exactly as large as the picture; returns where it is on the display. */
async function fitWindow(page: Page, format: Format): Promise<{ left: number; top: number }> {
  const session = await page.context().newCDPSession(page);
  const { windowId } = await session.send("Browser.getWindowForTarget");
  const inner = (): Promise<number[]> => page.evaluate(() => [innerWidth, innerHeight]);
  const fits = async (): Promise<boolean> => {
    const [width = 0, height = 0] = await inner();
    if (width === format.width && height === format.height) return true;
    const { bounds } = await session.send("Browser.getWindowForTarget");
    const wider = (bounds.width ?? 0) + format.width - width;
    const higher = (bounds.height ?? 0) + format.height - height;
    await session.send("Browser.setWindowBounds", { windowId, bounds: { left: 0, top: 0, width: wider, height: higher } });
    return false;
  };
  await until("a window of the picture's size", fits, 10_000, 200);
  await session.detach();
  const [left = 0, top = 0] = await page.evaluate(() => [screenX + outerWidth - innerWidth, screenY + outerHeight - innerHeight]);
  return { left, top };
}

/** Points the camera at the picture. */
function openCamera(screen: Screen, format: Format, place: { left: number; top: number }): Camera {
  const parameters = [place.left, place.top, format.width].map(String);
  const child = spawn(binary("probe-screen"), parameters, {
    env: { ...process.env, DISPLAY: `:${screen.display}` },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let [shown, presses]: [Shown[], Press[]] = [[], []];
  let [total, last]: [number, number | undefined] = [-1, undefined];
  createInterface({ input: child.stdout }).on("line", (line) => {
    const [what, ...numbers] = line.split(" ");
    const [atUs = 0, frame = 0, toggles = 0, application = 0, lateMs = 0, committed = 0, since = 0] = numbers.map(Number);
    if (what === "pressed") presses.push({ atMs: atUs / 1000 });
    if (what !== "frame") return;
    total = last === undefined ? 0 : total + ((toggles - last + 256) % 256);
    last = toggles;
    const times = { applicationMs: application / 10, lateMs, committedMs: committed / 10, sinceMs: since / 2 };
    shown.push({ atMs: atUs / 1000, frame, toggles, ...times });
  });
  return {
    take() {
      const taken = { shown, presses };
      [shown, presses] = [[], []];
      return taken;
    },
    toggles: () => total,
    press: () => void child.stdin.write("key k\n"),
    click: (x, y) => void child.stdin.write(`click ${place.left + x} ${place.top + y}\n`),
    async stop() {
      child.stdin.end();
      for (const deadline = Date.now() + 2000; child.exitCode === null && Date.now() < deadline; ) await sleep(20);
      child.kill("SIGKILL");
    },
  };
}

/** The product's page on the screen, with the camera in front of it. */
export interface Scene {
  readonly page: Page;
  readonly camera: Camera;
  close(): Promise<void>;
}

/** Opens a page of the picture's size; `scripts` run in it before the product's own. */
export async function openScene(screen: Screen, format: Format, scripts: readonly string[], directory: string): Promise<Scene> {
  const context = await screen.browser.newContext({ viewport: null });
  await context.addInitScript({ content: [NAME_HELPER, ...scripts].join("\n") });
  const page = await context.newPage();
  const console: string[] = [];
  page.on("console", (message) => console.push(message.text()));
  page.on("pageerror", (error) => console.push(`error: ${error.message}`));
  const camera = openCamera(screen, format, await fitWindow(page, format));
  return {
    page,
    camera,
    async close() {
      writeFileSync(join(directory, "console.log"), console.join("\n"));
      await camera.stop();
      await context.close();
    },
  };
}

/** Waits until the picture is there and answers keys. */
export async function steady(camera: Camera, format: Format): Promise<void> {
  await until("a readable picture of the probe", () => camera.toggles() >= 0, 40_000);
  camera.click(format.width / 2, format.height / 2);
  await until("keys that reach the probe", async () => {
    const before = camera.toggles();
    camera.press();
    await sleep(400);
    return camera.toggles() > before;
  });
}

/** Age of a frame when the display had it, in milliseconds. */
export function ageMs(frame: Shown): number {
  // Times of commit wrap: brought into -52 ... +52 seconds.
  const modulus = COMMITTED_MODULUS_MS;
  const positive = (((frame.atMs - frame.committedMs) % modulus) + modulus) % modulus;
  return positive > modulus / 2 ? positive - modulus : positive;
}
