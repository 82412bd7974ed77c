//! A page that says one thing: an error, an end, a missing address.

import type { ComponentChildren } from "preact";
import { follow } from "./route.ts";

interface MessageProps {
  readonly title: string;
  readonly text: string;
  /** A second, smaller sentence: what can be done. */
  readonly remedy?: string | undefined;
  /** With a link to the catalogue. */
  readonly home?: boolean;
  readonly children?: ComponentChildren;
}

export function Message({ title, text, remedy, home = false, children }: MessageProps) {
  return (
    <main class="message">
      <h1>{title}</h1>
      <p>{text}</p>
      {remedy === undefined ? null : <p class="quiet">{remedy}</p>}
      <div class="actions">
        {children}
        {home ? (
          <a class="button" href="/" onClick={follow}>
            All games
          </a>
        ) : null}
      </div>
    </main>
  );
}
