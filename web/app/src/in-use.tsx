//! The game runs already, in another window or on another device, and has the save.

import type { Api, App } from "@kite-cloud/sdk";
import { useCallback } from "preact/hooks";
import { useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { runningPlay } from "./mine.ts";
import { durationText, whenText } from "./time.ts";

interface InUseProps {
  readonly api: Api;
  readonly app: App;
  readonly onPlay: () => void;
  readonly onInstead: (session: string) => void;
}

export function InUse({ api, app, onPlay, onInstead }: InUseProps) {
  const [state] = useLoaded(useCallback((signal) => runningPlay(api, app.name, signal), [api, app.name]));
  const running = state.name === "loaded" ? state.value : null;
  const since = running === null ? "" : `, since ${sinceText(running.started_at)}`;
  const hasEnded = state.name === "loaded" && running === null;
  return (
    <Message
      title={`${app.title} is running elsewhere`}
      text={
        hasEnded
          ? "You played it in another window or on another device. It has ended meanwhile."
          : `You play it in another window or on another device${since}. Two at once would save over each other.`
      }
      remedy={state.name === "failed" ? `${state.error.message} ${state.error.remedy}` : running?.sentence}
      home
    >
      {hasEnded || state.name === "failed" ? null : (
        <button
          type="button"
          class="button primary"
          disabled={running === null}
          onClick={() => running !== null && onInstead(running.session)}
        >
          End it there and play here
        </button>
      )}
      <button type="button" class="button" onClick={() => onPlay()}>
        Try again
      </button>
    </Message>
  );
}

function sinceText(at: string): string {
  return `${whenText(at)} (${durationText(Date.now() - Date.parse(at))})`;
}
