//! The session of this tab: a reload joins it again instead of starting another game.

import { type Api, ApiError, type CreateSession, ensurePlayer } from "@kite-cloud/sdk";

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

export function forgetSession(app: string): void {
  try {
    sessionStorage.removeItem(KEY + app);
  } catch {
    // Storage is forbidden, so there is nothing to forget.
  }
}

/** @throws ApiError */
export async function joinOrCreate(api: Api, request: CreateSession, signal: AbortSignal): Promise<TabSession> {
  const before = stored(request.app);
  if (before !== null && (await isAlive(api, before, signal))) return before;
  const player = await ensurePlayer({ server: api }, signal);
  const { session, token, link, whep } = await api.createSession(request, signal, player?.token);
  const created = { id: session.id, token, link, whep };
  if (signal.aborted) api.endSession(created.id, token).catch(() => {});
  else store(request.app, created);
  return created;
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
