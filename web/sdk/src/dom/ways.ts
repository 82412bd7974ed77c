//! Measures the ways to sites: a peer connection with one data channel to each, all at once, over before the player has waited.

import { APART_MS, choose, Measurement, type Way } from "../core/ways.js";
import type { Api } from "../rest/client.js";
import type { SiteProbe } from "../rest/types.js";

export interface MeasureOptions {
  readonly signal?: AbortSignal | undefined;
  /** Where guests may not play. */
  readonly playerToken?: string | undefined;
  /**
   * Longest time in all, from the call; 2000 when not given. A way of which too little is known by then is left out. A way that loses packets takes a
   * second more for each that it loses while the connection is made: who measures early should give it five.
   */
  readonly withinMs?: number | undefined;
  /** Ends it earlier, with what is known by then: somebody waits. */
  readonly enough?: AbortSignal | undefined;
}

const LABEL = "kite-echo";
/** Sites that are measured at once. More connections would hold back each other. */
const MOST_SITES = 8;
const WITHIN_MS = 2_000;

/**
 * How far the sites are, for `probes` of `createSession`: what was not reached is left out. Nothing where there is one site or none, because there is
 * nothing to choose. Good for some minutes, as long as the device stays in its network.
 *
 * @throws ApiError: the sites cannot be listed
 */
export async function measureSites(api: Api, options: MeasureOptions = {}): Promise<readonly SiteProbe[]> {
  const { signal, playerToken, withinMs = WITHIN_MS, enough } = options;
  const late = AbortSignal.timeout(withinMs);
  const any = AbortSignal.any([late, signal, enough].filter((each) => each !== undefined));
  const { sites } = await api.sites(any, playerToken).catch((error: unknown) => {
    signal?.throwIfAborted();
    if (any.aborted) return { sites: [] };
    throw error;
  });
  if (sites.length < 2) return [];
  const measured = choose(sites, MOST_SITES, Math.random).map(async ({ name }): Promise<SiteProbe | null> => {
    const way = await measureSite(api, name, any, playerToken);
    if (way === null) return null;
    return { site: name, round_trip_us: Math.round(way.roundTripMs * 1000), loss_permille: way.lossPermille };
  });
  const probes = await Promise.all(measured);
  signal?.throwIfAborted();
  return probes.filter((probe) => probe !== null);
}

/** Until it is done or `signal` ends it: then with what came until then. */
async function measureSite(
  api: Api,
  site: string,
  signal: AbortSignal,
  playerToken: string | undefined,
): Promise<Way | null> {
  const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  try {
    const channel = connection.createDataChannel(LABEL, { ordered: false, maxRetransmits: 0 });
    channel.binaryType = "arraybuffer";
    const opened = new Promise<void>((resolve, reject) => {
      channel.onopen = () => resolve();
      channel.onclose = () => reject(new Error("the channel was closed"));
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    // Heard below, and perhaps by nobody when the offer fails before.
    opened.catch(() => {});
    await connection.setLocalDescription(await connection.createOffer());
    const sdp = connection.localDescription?.sdp ?? "";
    const answer = await api.probeSite(site, sdp, signal, playerToken);
    await connection.setRemoteDescription({ type: "answer", sdp: answer });
    await opened;
    return await exchange(channel, signal);
  } catch {
    // Not reached: it is left out, whatever the reason.
    return null;
  } finally {
    connection.close();
  }
}

function exchange(channel: RTCDataChannel, signal: AbortSignal): Promise<Way | null> {
  const measurement = new Measurement();
  return new Promise((resolve) => {
    const tick = (): void => {
      const nowMs = performance.now();
      if (signal.aborted || channel.readyState !== "open" || measurement.isDone(nowMs)) end(nowMs);
      else if (measurement.isSending) channel.send(Uint32Array.of(measurement.sends(nowMs)));
    };
    const timer = setInterval(tick, APART_MS);
    const end = (nowMs: number): void => {
      clearInterval(timer);
      channel.onmessage = null;
      resolve(measurement.way(nowMs));
    };
    channel.onmessage = ({ data }: MessageEvent<unknown>) => {
      const nowMs = performance.now();
      if (!(data instanceof ArrayBuffer) || data.byteLength !== Uint32Array.BYTES_PER_ELEMENT) return;
      measurement.back(new Uint32Array(data)[0] ?? -1, nowMs);
      if (measurement.isDone(nowMs)) end(nowMs);
    };
    signal.addEventListener("abort", () => end(performance.now()), { once: true });
    tick();
  });
}
