//! The saves of the player of this browser, a game each.

import type { Api, App } from "@kite-cloud/sdk";
import { useCallback, useState } from "preact/hooks";
import { BringOther } from "./bring.tsx";
import type { Changed } from "./deeds.ts";
import { GameHistory } from "./history.tsx";
import { useDeed, useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { type Mine, mySaves } from "./mine.ts";
import { Header } from "./parts.tsx";
import { follow } from "./route.ts";
import { byGame, replaced } from "./save.ts";

interface SavesPageProps {
  readonly api: Api;
  /** Only this game's. */
  readonly app: string | null;
}

interface Known extends Mine {
  readonly apps: readonly App[];
}

async function ask(api: Api, app: string | null, signal: AbortSignal): Promise<Known> {
  const [mine, { apps }] = await Promise.all([mySaves(api, app, signal), api.apps(signal)]);
  return { ...mine, apps: app === null ? apps : apps.filter(({ name }) => name === app) };
}

export function SavesPage({ api, app }: SavesPageProps) {
  const [state, again] = useLoaded(useCallback((signal) => ask(api, app, signal), [api, app]));
  return (
    <>
      <Header />
      {state.name === "loading" ? (
        <main class="plays" aria-busy="true">
          <h1>Your saves</h1>
        </main>
      ) : null}
      {state.name === "failed" ? (
        <Message title="Your saves cannot be listed" text={state.error.message} remedy={state.error.remedy}>
          <button type="button" class="button primary" onClick={again}>
            Try again
          </button>
        </Message>
      ) : null}
      {state.name === "loaded" ? <Saves api={api} app={app} known={state.value} /> : null}
    </>
  );
}

function Saves({ api, app, known }: SavesPageProps & { readonly known: Known }) {
  const [saves, setSaves] = useState(known.saves);
  const [said, run] = useDeed();
  const changed: Changed = (app, versions) => setSaves((before) => replaced(before, app, versions));
  const games = byGame(saves);
  const others = known.apps.filter(({ name }) => !games.some((game) => game.app === name));
  const title = (name: string): string | null => known.apps.find((each) => each.name === name)?.title ?? null;
  return (
    <main class="plays">
      <h1>{games.length === 0 ? "No saves yet" : "Your saves"}</h1>
      {games.length === 0 ? (
        <p>What your games save while you play in this browser is kept here, and the next play goes on with it.</p>
      ) : null}
      {games.map((game) => (
        <GameHistory
          key={game.app}
          api={api}
          app={game.app}
          title={title(game.app)}
          versions={game.versions}
          plays={known.plays}
          run={run}
          onChanged={changed}
        />
      ))}
      {others.length === 0 ? null : (
        <BringOther key={others.length} api={api} apps={others} run={run} onChanged={changed} />
      )}
      {app === null ? null : (
        <p class="actions">
          <a class="button" href="/saves" onClick={follow}>
            All your saves
          </a>
        </p>
      )}
      <p role="status" class="said">
        {said}
      </p>
    </main>
  );
}
