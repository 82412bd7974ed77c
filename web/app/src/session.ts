//! The session of this tab: a reload joins it again instead of starting another game.

import { type Api, ApiError, type CreateSession, ensurePlayer } from "@kite-cloud/sdk";
import { waysToSites } from "./ways.ts";

export interface TabSession {
  readonly id: string;
  readonly token: string;
  readonly link: string;
  readonly whep: string;
}

const KEY = "kite.session.";

function stored(app: string): TabSession | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY + app) ?? "null") as TabSession | null;
  } catch {
    return null;
  }
}

function store(app: string, session: TabSession): void {
  try {
    sessionStorage.setItem(KEY + app, JSON.stringify(session));
  } catch {
    // Storage is forbidden: a reload then starts anew.
  }
}

/**
 * A session that somebody launched for whoever opens this page: its id and its token stand behind the address's `#`, which no server is sent. Taken out
 * of the address, so that it is in no history and goes to nobody who is sent the address.
 */
function handedOver(): TabSession | null {
  const handed = new URLSearchParams(location.hash.slice(1));
  const [id, token] = [handed.get("session"), handed.get("token")];
  if (id === null || token === null || !/^ses_[0-9a-f]{32}$/.test(id)) return null;
  history.replaceState(history.state, "", location.pathname + location.search);
  return { id, token, link: `/v1/sessions/${id}/link`, whep: `/v1/sessions/${id}/whep` };
}

/** The last session of each app that this page had. */
const last = new Map<string, TabSession>();

export function forgetSession(app: string): void {
  const session = stored(app);
  if (session !== null) last.set(app, session);
  try {
    sessionStorage.removeItem(KEY + app);
  } catch {
    // Storage is forbidden, so there is nothing to forget.
  }
}

/** @throws ApiError */
export async function joinOrCreate(api: Api, request: CreateSession, signal: AbortSignal): Promise<TabSession> {
  const handed = handedOver();
  if (handed !== null) store(request.app, handed);
  const before = handed ?? stored(request.app);
  if (before !== null) {
    if (await isAlive(api, before, signal)) return before;
    forgetSession(request.app);
  }
  const [player, probes] = await Promise.all([ensurePlayer({ server: api }, signal), waysToSites(api)]);
  const asked = probes.length === 0 ? request : { ...request, probes: [...probes] };
  const { session, token, link, whep } = await api.createSession(asked, signal, player?.token);
  const created = { id: session.id, token, link, whep };
  if (signal.aborted) api.endSession(created.id, token).catch(() => {});
  else store(request.app, created);
  return created;
}

/** True while the session that this page had last is being stopped: it writes its save. */
export async function isEnding(api: Api, app: string, signal: AbortSignal): Promise<boolean> {
  const session = last.get(app);
  if (session === undefined) return false;
  try {
    return (await api.session(session.id, session.token, signal)).state.state === "stopping";
  } catch (error) {
    if (error instanceof ApiError) return false;
    throw error;
  }
}

async function isAlive(api: Api, { id, token }: TabSession, signal: AbortSignal): Promise<boolean> {
  try {
    const { state } = await api.session(id, token, signal);
    return state.state !== "ended" && state.state !== "stopping";
  } catch (error) {
    if (error instanceof ApiError && !error.isTemporary) return false;
    throw error;
  }
}
