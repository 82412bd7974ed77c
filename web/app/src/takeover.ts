//! Waiting for a save that another session still has. Deliberately absent: how sessions are made and ended.

import { ApiError } from "@kite-cloud/sdk";

/** A service gives a game 30 s to stop and its save some more. Shorter gives up on those; longer only hides that it hangs. */
const PATIENCE_MS = 45_000;
/** Saves are written within seconds. More often would not start the game sooner, and count as too many requests. */
const PAUSE_MS = 1_000;

export function isInUse(error: unknown): error is ApiError {
  return error instanceof ApiError && error.kind === "save_in_use";
}

/**
 * What `create` gives as soon as the save is free. `tell` hears now and then how long it took so far.
 *
 * @throws the last refusal when it takes too long; what else `create` throws, unless it may pass by itself: the place of the
 * other session is free together with its save.
 */
export async function whenFree<Value>(
  create: () => Promise<Value>,
  tell: (waitedMs: number) => void,
  signal: AbortSignal,
): Promise<Value> {
  for (const begunMs = performance.now(); ; ) {
    try {
      return await create();
    } catch (error) {
      signal.throwIfAborted();
      const waitedMs = performance.now() - begunMs;
      const mayPass = isInUse(error) || (error instanceof ApiError && error.isTemporary);
      if (!mayPass || waitedMs > PATIENCE_MS) throw error;
      tell(waitedMs);
      await pause(Math.max(PAUSE_MS, error.retryAfterMs ?? 0), signal);
    }
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
  signal.throwIfAborted();
}
