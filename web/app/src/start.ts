//! Ways to start a play: as it is asked for, or in place of one that runs elsewhere.

import { type Api, ApiError, type CreateSession, knownPlayer } from "@kite-cloud/sdk";
import { isEnding, joinOrCreate, type TabSession } from "./session.ts";
import { isInUse, whenFree } from "./takeover.ts";

/** What a start waits for, and how long already. */
export interface Progress {
  readonly text: string;
  readonly waitedMs: number;
}

export type Tell = (progress: Progress) => void;

/** @throws ApiError */
export type Start = (tell: Tell, signal: AbortSignal) => Promise<TabSession>;

/** As it is asked for. Who plays again at once waits until this page's last play has written its save. */
export function plainStart(api: Api, request: CreateSession): Start {
  return async (tell, signal) => {
    try {
      return await joinOrCreate(api, request, signal);
    } catch (error) {
      if (!isInUse(error) || !(await isEnding(api, request.app, signal))) throw error;
      return startWhenFree(api, request, "Your last play is being saved …", tell, signal);
    }
  };
}

/** Ends that session of the player, and goes on with what it saves. */
export function startInstead(api: Api, request: CreateSession, session: string): Start {
  return async (tell, signal) => {
    tell({ text: "The other play is being ended …", waitedMs: 0 });
    await endElsewhere(api, session, signal);
    return startWhenFree(api, request, "The other play is being saved …", tell, signal);
  };
}

function startWhenFree(api: Api, request: CreateSession, text: string, tell: Tell, signal: AbortSignal) {
  return whenFree(
    () => joinOrCreate(api, request, signal),
    (waitedMs) => tell({ text, waitedMs }),
    signal,
  );
}

async function endElsewhere(api: Api, session: string, signal: AbortSignal): Promise<void> {
  const known = knownPlayer({ server: api });
  if (known === null) return;
  try {
    await api.endMySession(known.token, session, signal);
  } catch (error) {
    // One that has ended meanwhile is what was asked for.
    if (!(error instanceof ApiError && ["session_unknown", "session_ended"].includes(error.kind))) throw error;
  }
}
