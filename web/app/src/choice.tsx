//! The player's choice, where his save went on in several ways.

import type { Api, App } from "@kite-cloud/sdk";
import { useCallback } from "preact/hooks";
import { useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { mySaves } from "./mine.ts";
import { follow } from "./route.ts";
import { whenText } from "./time.ts";
import { Version } from "./version.tsx";

interface ChooseSaveProps {
  readonly api: Api;
  readonly app: App;
  readonly onPlay: (save?: string) => void;
}

export function ChooseSave({ api, app, onPlay }: ChooseSaveProps) {
  const [state, again] = useLoaded(useCallback((signal) => mySaves(api, app.name, signal), [api, app.name]));
  if (state.name === "failed") {
    return (
      <Message title="Your saves cannot be listed" text={state.error.message} remedy={state.error.remedy} home>
        <button type="button" class="button primary" onClick={again}>
          Try again
        </button>
      </Message>
    );
  }
  const mine = state.name === "loaded" ? state.value : null;
  const newest = mine?.saves.filter((version) => version.is_newest);
  return (
    <main class="plays choice" aria-busy={mine === null}>
      <h1>Which save do you go on with?</h1>
      <p>
        Your save of {app.title} went on in several ways, for example in two windows at once. Choose the one to play
        with. The others are not lost: they stay in{" "}
        <a class="inline" href={`/saves?app=${app.name}`} onClick={follow}>
          your saves
        </a>
        , and you can go back to them.
      </p>
      <ul>
        {newest?.map((version) => (
          <Version key={version.id} version={version} play={mine?.plays.get(version.session ?? "")}>
            <button type="button" class="button primary" onClick={() => onPlay(version.id)}>
              Play with this<span class="hidden"> save of {whenText(version.created_at, true)}</span>
            </button>
          </Version>
        ))}
      </ul>
      <div class="actions">
        {newest?.length === 0 ? (
          <button type="button" class="button" onClick={() => onPlay()}>
            Try again
          </button>
        ) : null}
        <a class="button" href="/" onClick={follow}>
          All games
        </a>
      </div>
    </main>
  );
}
