/** Real browsers under remote control: Debian's Chromium by Playwright. */

import { chromium } from "playwright-core";
import type { Browser } from "playwright-core";

/**
 * Flags that every test and every measured product gets.
 *
 * Software compositing, because these machines have no GPU and SwiftShader would spend the processor that the encoder
 * needs; nothing throttled for being in the background, so that animation frames come at a steady 60 Hz.
 */
export const CHROMIUM_FLAGS: readonly string[] = [
  "--no-sandbox",
  "--disable-gpu",
  "--autoplay-policy=no-user-gesture-required",
  "--disable-background-timer-throttling",
  "--disable-backgrounding-occluded-windows",
  "--disable-renderer-backgrounding",
  "--force-device-scale-factor=1",
];

/** Starts Chromium without a window. */
export async function launchChromium(extraFlags: readonly string[] = []): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env["KITE_CHROMIUM"] ?? "/usr/bin/chromium",
    headless: true,
    args: [...CHROMIUM_FLAGS, ...extraFlags],
  });
}

/**
 * Functions that are sent into a page come through esbuild, which wraps inner functions in a helper of this name to keep
 * theirs. The page has to have it.
 */
export const NAME_HELPER = "globalThis.__name ??= (value) => value;";
