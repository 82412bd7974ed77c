/** Bytes of a page's peer connections. */

import type { Page } from "playwright-core";

/** Bytes of video received by all peer connections of the page, headers included. */
export async function inboundVideoBytes(page: Page): Promise<number> {
  const entries = await page.evaluate(async () => (await window.kiteBench?.inboundVideo()) ?? []);
  return entries.reduce((sum, entry) => sum + Number(entry["bytesReceived"]) + Number(entry["headerBytesReceived"]), 0);
}
