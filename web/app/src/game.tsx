//! A game's page: what it is, how to play it, and the play itself.

import type { Api, App, StreamSpec } from "@kite-cloud/sdk";
import { useCallback, useEffect, useState } from "preact/hooks";
import { useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { ofPlayer } from "./mine.ts";
import { AppPicture, Header } from "./parts.tsx";
import { PlayPage } from "./play.tsx";
import { follow, type PlayQuery } from "./route.ts";
import { rates, remember, remembered, resolutions } from "./spec.ts";
import { beginMeasuring } from "./ways.ts";

interface GamePageProps {
  readonly api: Api;
  readonly name: string;
  readonly query: PlayQuery;
}

export function GamePage({ api, name, query }: GamePageProps) {
  const [state, again] = useLoaded(useCallback((signal) => api.app(name, signal), [api, name]));
  const [chosen, setChosen] = useState<StreamSpec | null>(null);
  switch (state.name) {
    case "loading":
      return <Header />;
    case "failed":
      if (state.error.kind === "app_unknown") {
        return <Message title="There is no such game" text={`No game here is called “${name}”.`} home />;
      }
      return (
        <Message title="The game cannot be shown" text={state.error.message} remedy={state.error.remedy} home>
          <button type="button" class="button primary" onClick={again}>
            Try again
          </button>
        </Message>
      );
    case "loaded": {
      const app = state.value;
      const isFixed = query.spec.width !== undefined || query.spec.height !== undefined;
      const spec = chosen ?? (query.autostart ? { ...app.spec.default, ...query.spec } : null);
      if (spec === null) return <Game api={api} app={app} onPlay={setChosen} />;
      return <PlayPage api={api} app={app} spec={spec} resizable={!isFixed} />;
    }
  }
}

interface GameProps {
  readonly api: Api;
  readonly app: App;
  readonly onPlay: (spec: StreamSpec) => void;
}

function Game({ api, app, onPlay }: GameProps) {
  const [spec, setSpec] = useState(() => remembered(app));
  // While the player reads: it is known when he presses play.
  useEffect(() => void beginMeasuring(api), [api]);
  const sizes = resolutions(app.spec);
  const frameRates = rates(app.spec);
  const chosenSize = sizes.findIndex(({ value }) => value.width === spec.width && value.height === spec.height);
  const play = (): void => {
    remember(app, spec);
    onPlay(spec);
  };
  return (
    <>
      <Header />
      <main class="game">
        <AppPicture app={app} eager />
        <div class="game-text">
          <h1>{app.title}</h1>
          <p>{app.summary}</p>
          <ul class="tags" aria-label="How to play">
            {controls(app).map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
          <form
            class="choices"
            onSubmit={(event) => {
              event.preventDefault();
              play();
            }}
          >
            <label>
              <span>Resolution</span>
              <select
                value={chosenSize}
                onChange={(event) => setSpec({ ...spec, ...sizes[Number(event.currentTarget.value)]?.value })}
              >
                {sizes.map(({ label }, index) => (
                  <option key={label} value={index}>
                    {label}
                  </option>
                ))}
              </select>
            </label>
            <label>
              <span>Frame rate</span>
              <select
                value={spec.frames_per_second}
                onChange={(event) => setSpec({ ...spec, frames_per_second: Number(event.currentTarget.value) })}
              >
                {frameRates.map(({ value, label }) => (
                  <option key={value} value={value}>
                    {label}
                  </option>
                ))}
              </select>
            </label>
            <button type="submit" class="button primary large">
              Play
            </button>
          </form>
          <SavesLink api={api} app={app.name} />
        </div>
      </main>
    </>
  );
}

/** Only where there are some: whoever plays for the first time has nothing to look at. */
function SavesLink({ api, app }: Pick<GamePageProps, "api"> & { readonly app: string }) {
  const ask = useCallback(
    (signal: AbortSignal) => ofPlayer(api, (token) => api.saves(token, { app }, signal)),
    [api, app],
  );
  const [state] = useLoaded(ask);
  const hasSaves = state.name === "loaded" && (state.value?.saves.length ?? 0) > 0;
  return (
    <p class="saves-link">
      {hasSaves ? (
        <a class="inline" href={`/saves?app=${app}`} onClick={follow}>
          Your saves of this game
        </a>
      ) : null}
    </p>
  );
}

function controls({ input }: App): string[] {
  return [
    input.keyboard ? "Keyboard" : null,
    input.mouse === "none" ? null : "Mouse",
    input.gamepads === 0 ? null : input.gamepads === 1 ? "Gamepad" : `Up to ${input.gamepads} gamepads`,
    input.touch.mode === "pointer" ? null : "Touch screen",
  ].filter((text) => text !== null);
}
