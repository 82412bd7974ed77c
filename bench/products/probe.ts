/** What the products share: where the probe's programs are, how a peer connection's bytes are read. */

import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

import type { Page } from "playwright-core";

/** The checkout. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Directory of the built programs. */
export function binaries(): string {
  return process.env["KITE_BIN_DIR"] ?? join(process.env["CARGO_TARGET_DIR"] ?? join(ROOT, "target"), "debug");
}

/** Path of a built program. */
export function probeBinary(name: string): string {
  const path = join(binaries(), name);
  if (!existsSync(path)) throw new Error(`${path} is not built: run ./x build`);
  return path;
}

/** Bytes of video received by all peer connections of the page, headers included. */
export async function inboundVideoBytes(page: Page): Promise<number> {
  const entries = await page.evaluate(async () => (await window.kiteBench?.inboundVideo()) ?? []);
  return entries.reduce((sum, entry) => sum + Number(entry["bytesReceived"]) + Number(entry["headerBytesReceived"]), 0);
}
