//! Asking the server, as a hook: loading, loaded or failed, and again.

import { ApiError } from "@kite-cloud/sdk";
import { useCallback, useEffect, useState } from "preact/hooks";

export type Loaded<Value> =
  | { readonly name: "loading" }
  | { readonly name: "loaded"; readonly value: Value }
  | { readonly name: "failed"; readonly error: ApiError };

/** `ask` must stay the same function as long as the question does. */
export function useLoaded<Value>(ask: (signal: AbortSignal) => Promise<Value>): [Loaded<Value>, () => void] {
  const [state, setState] = useState<Loaded<Value>>({ name: "loading" });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    setState({ name: "loading" });
    ask(abort.signal).then(
      (value) => setState({ name: "loaded", value }),
      (error: unknown) => {
        if (!abort.signal.aborted) setState({ name: "failed", error: asApiError(error) });
      },
    );
    return () => abort.abort();
  }, [ask, attempt]);
  return [state, useCallback(() => setAttempt((before) => before + 1), [])];
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new ApiError("unexpected_answer", 0, `Something unexpected happened: ${text}`, "Try again.");
}
