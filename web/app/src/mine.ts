//! What the player of this browser has. Looking makes no player.

import { type Api, ApiError, knownPlayer, type Play, type SaveVersion } from "@kite-cloud/sdk";

/** What is asked with his token; `null` where nobody is known, here or on the server. @throws ApiError */
export async function ofPlayer<Value>(api: Api, ask: (token: string) => Promise<Value>): Promise<Value | null> {
  const known = knownPlayer({ server: api });
  if (known === null) return null;
  try {
    return await ask(known.token);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return null;
    throw error;
  }
}

/** His saves, newest first. */
export interface Mine {
  readonly saves: readonly SaveVersion[];
  /** The plays that they are from, by their sessions: only his last ones. */
  readonly plays: ReadonlyMap<string, Play>;
}

/** A version that is from an older play is shown without it. */
const PLAYS = 100;

const NOTHING: Mine = { saves: [], plays: new Map() };

/** Of one app, or of all where it is `null`. @throws ApiError */
export async function mySaves(api: Api, app: string | null, signal: AbortSignal): Promise<Mine> {
  const mine = await ofPlayer(api, async (token) => {
    const [{ saves }, { plays }] = await Promise.all([
      api.saves(token, { app: app ?? undefined }, signal),
      api.plays(token, { limit: PLAYS }, signal),
    ]);
    return { saves, plays: new Map(plays.map((play) => [play.session, play])) };
  });
  return mine ?? NOTHING;
}

/** His newest play of an app that has not ended. @throws ApiError */
export async function runningPlay(api: Api, app: string, signal: AbortSignal): Promise<Play | null> {
  const running = await ofPlayer(api, async (token) => {
    const { plays } = await api.plays(token, { limit: PLAYS }, signal);
    return plays.find((play) => play.app === app && play.ended_at == null);
  });
  return running ?? null;
}
