/** What a page's peer connections received. */

import type { Page } from "playwright-core";

declare global {
  interface Window {
    benchPeers?: RTCPeerConnection[];
  }
}

/** Runs in the measured page first: keeps the peer connections that it makes. Everything else of the page stays as it is. */
export const KEEP_PEERS = `{
  const peers = (window.benchPeers = []);
  window.RTCPeerConnection = new Proxy(window.RTCPeerConnection, {
    construct(target, parameters, newTarget) {
      const peer = Reflect.construct(target, parameters, newTarget);
      peers.push(peer);
      return peer;
    },
  });
}`;

/** Statistics of every inbound video of every peer connection. */
export async function inboundVideo(page: Page): Promise<Record<string, unknown>[]> {
  return page.evaluate(async () => {
    const found: Record<string, unknown>[] = [];
    for (const peer of window.benchPeers ?? []) {
      if (peer.connectionState === "closed") continue;
      for (const entry of (await peer.getStats()).values() as Iterable<Record<string, unknown>>) {
        if (entry["type"] === "inbound-rtp" && entry["kind"] === "video") found.push(entry);
      }
    }
    return found;
  });
}

/** Bytes of video received by all peer connections of the page, headers included. */
export async function inboundVideoBytes(page: Page): Promise<number> {
  const entries = await inboundVideo(page);
  return entries.reduce((sum, entry) => sum + Number(entry["bytesReceived"]) + Number(entry["headerBytesReceived"]), 0);
}
