//! Asking the server, as hooks: what a page shows, and what a click on it does.

import { ApiError } from "@kite-cloud/sdk";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

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

/** Does what a click asks for, one thing at a time: `work` ends in what is said of it. */
export type Do = (busy: string, work: () => Promise<string>) => void;

/** What is being done or how it went, for the page to say; `null` before. A refusal is said as the server says it. */
export function useDeed(): [string | null, Do] {
  const [text, setText] = useState<string | null>(null);
  const isBusy = useRef(false);
  const run = useCallback((busy: string, work: () => Promise<string>) => {
    if (isBusy.current) return;
    isBusy.current = true;
    setText(busy);
    work()
      .catch((error: unknown) => {
        const { message, remedy } = asApiError(error);
        return `${message} ${remedy}`;
      })
      .then((text) => {
        isBusy.current = false;
        setText(text);
      });
  }, []);
  return [text, run];
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new ApiError("unexpected_answer", 0, `Something unexpected happened: ${text}`, "Try again.");
}
