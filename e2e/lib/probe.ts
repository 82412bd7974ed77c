/** The script that reads the probe's frames in a page; `probe-page.ts` is what it does there. */

import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import type { Page } from "playwright-core";

import type { Recording } from "./probe-page.ts";

/** The key that tests and benchmarks press: one that no page has a shortcut for. */
export const PROBE_KEY = { code: "KeyK", key: "k", windowsVirtualKeyCode: 75 } as const;

/** The script for the page, in one piece. */
export async function probeScript(): Promise<string> {
  const entry = fileURLToPath(new URL("probe-page.ts", import.meta.url));
  const { outputFiles } = await build({ entryPoints: [entry], bundle: true, write: false, format: "iife", target: "es2022" });
  return outputFiles[0]?.text ?? "";
}

/** Inputs that the picture has shown so far, -1 before the first readable frame. */
export async function toggles(page: Page): Promise<number> {
  return page.evaluate(() => window.kiteBench?.toggles() ?? -1);
}

/** Everything recorded since the last call. */
export async function take(page: Page): Promise<Recording> {
  const recording = await page.evaluate(() => window.kiteBench?.take());
  if (!recording) throw new Error("the page has no measuring script");
  return recording;
}
