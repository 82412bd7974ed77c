//! A game's page: what it is, how to play it, and the play itself.

import type { Api, App, StreamSpec } from "@kite-cloud/sdk";
import { useCallback, useState } from "preact/hooks";
import { useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { AppPicture, Header } from "./parts.tsx";
import { PlayPage } from "./play.tsx";
import type { PlayQuery } from "./route.ts";
import { rates, remember, remembered, resolutions } from "./spec.ts";

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
      if (spec === null) return <Game app={app} onPlay={setChosen} />;
      return <PlayPage api={api} app={app} spec={spec} resizable={!isFixed} />;
    }
  }
}

function Game({ app, onPlay }: { readonly app: App; readonly onPlay: (spec: StreamSpec) => void }) {
  const [spec, setSpec] = useState(() => remembered(app));
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
        </div>
      </main>
    </>
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
