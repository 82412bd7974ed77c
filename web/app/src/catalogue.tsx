//! The catalogue: every game with its picture.

import type { Api, App } from "@kite-cloud/sdk";
import { useCallback } from "preact/hooks";
import { useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { AppPicture, Header } from "./parts.tsx";
import { follow } from "./route.ts";

export function CataloguePage({ api }: { readonly api: Api }) {
  const [state, again] = useLoaded(useCallback(async (signal) => (await api.apps(signal)).apps, [api]));
  return (
    <>
      <Header />
      {state.name === "loading" ? <Placeholders /> : null}
      {state.name === "failed" ? (
        <Message title="The games cannot be listed" text={state.error.message} remedy={state.error.remedy}>
          <button type="button" class="button primary" onClick={again}>
            Try again
          </button>
        </Message>
      ) : null}
      {state.name === "loaded" ? <Games apps={state.value} /> : null}
    </>
  );
}

function Games({ apps }: { readonly apps: readonly App[] }) {
  if (apps.length === 0) {
    return (
      <Message
        title="No games yet"
        text="Put a game's directory with its kite.toml where the server looks for games."
      />
    );
  }
  return (
    <main class="catalogue">
      <h1>Games</h1>
      <ul class="grid">
        {apps.map((app) => (
          <li key={app.name}>
            <a class="card" href={`/play/${app.name}`} onClick={follow}>
              <AppPicture app={app} />
              <div class="card-text">
                <h2>{app.title}</h2>
                <p>{app.summary}</p>
              </div>
            </a>
          </li>
        ))}
      </ul>
    </main>
  );
}

function Placeholders() {
  return (
    <main class="catalogue" aria-busy="true">
      <h1>Games</h1>
      <ul class="grid" aria-hidden="true">
        {[1, 2, 3].map((index) => (
          <li key={index}>
            <div class="card placeholder">
              <div class="picture" />
              <div class="card-text" />
            </div>
          </li>
        ))}
      </ul>
    </main>
  );
}
