//! Small parts that several pages share.

import type { App } from "@kite-cloud/sdk";
import { useState } from "preact/hooks";
import { follow } from "./route.ts";
import { whenText } from "./time.ts";

export function Header() {
  return (
    <header class="header">
      <a class="brand" href="/" onClick={follow} aria-label="Kite, all games">
        <img src="/kite.svg" alt="" width="28" height="28" />
        <span>Kite</span>
      </a>
      <nav aria-label="Pages">
        <a href="/plays" onClick={follow}>
          Your plays
        </a>
        <a href="/saves" onClick={follow}>
          Your saves
        </a>
      </nav>
    </header>
  );
}

/** A time, to the second where `isExact`. */
export function When({ at, isExact = false }: { readonly at: string; readonly isExact?: boolean }) {
  return <time dateTime={at}>{whenText(at, isExact)}</time>;
}

/** A hue of its own for each name, where there is no picture. */
function hue(name: string): number {
  let sum = 0;
  for (const character of name) sum = (sum * 31 + (character.codePointAt(0) ?? 0)) % 360;
  return sum;
}

export function AppPicture({ app, eager = false }: { readonly app: App; readonly eager?: boolean }) {
  const [isBroken, setBroken] = useState(false);
  if (app.picture == null || isBroken) {
    return (
      <div class="picture drawn" style={{ "--hue": hue(app.name) }} aria-hidden="true">
        {app.title.slice(0, 1)}
      </div>
    );
  }
  return (
    <img
      class="picture"
      src={app.picture}
      alt=""
      width="640"
      height="360"
      loading={eager ? "eager" : "lazy"}
      onError={() => setBroken(true)}
    />
  );
}

const ICONS = {
  leave: "M15 6 9 12l6 6",
  fullscreen: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  window: "M9 4v5H4M15 4v5h5M9 20v-5H4M15 20v-5h5",
  sound: "M4 9v6h4l5 4V5L8 9zM16.5 8.5a5 5 0 0 1 0 7M19 6a8.5 8.5 0 0 1 0 12",
  silent: "M4 9v6h4l5 4V5L8 9zM17 9.5l5 5M22 9.5l-5 5",
  statistics: "M5 20v-6M12 20V5M19 20v-9",
} as const;

export function Icon({ name }: { readonly name: keyof typeof ICONS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}
