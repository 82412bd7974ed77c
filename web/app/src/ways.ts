//! How far the sites are, known before anybody presses play.

import { type Api, knownPlayer, measureSites, type SiteProbe } from "@kite-cloud/sdk";

/** For so long a way is what it was. Longer misleads who changed networks, shorter measures again for who plays one game after the other. */
const KEPT_MS = 5 * 60_000;

/** A measurement may take so long while nobody waits for it: bad ways take longer, and are what is to be found out. */
const WITHIN_MS = 5_000;

/** Nobody waits longer for it, from its beginning: then what is known has to do. */
const PATIENCE_MS = 2_000;

interface Ways {
  readonly beganMs: number;
  readonly enough: AbortController;
  readonly probes: Promise<readonly SiteProbe[]>;
}

let last: Ways | null = null;

/** Measures, where that was not done a while ago. Asked for early, it is there when it is needed. */
export function beginMeasuring(api: Api): Ways {
  const beganMs = performance.now();
  if (last !== null && beganMs - last.beganMs < KEPT_MS) return last;
  const enough = new AbortController();
  const options = { playerToken: knownPlayer({ server: api })?.token, withinMs: WITHIN_MS, enough: enough.signal };
  const probes = measureSites(api, options).catch(() => {
    // Without it the session is placed as if all sites were equally far.
    last = null;
    return [];
  });
  last = { beganMs, enough, probes };
  return last;
}

/** What is known of the ways, two seconds after the measurement began at the latest, and without an error. */
export async function waysToSites(api: Api): Promise<readonly SiteProbe[]> {
  const { beganMs, enough, probes } = beginMeasuring(api);
  const timer = setTimeout(() => enough.abort(), Math.max(0, beganMs + PATIENCE_MS - performance.now()));
  try {
    return await probes;
  } finally {
    clearTimeout(timer);
  }
}
