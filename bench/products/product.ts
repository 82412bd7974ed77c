/** What is measured: something that shows the probe in a web page. */

import type { Format } from "e2e/lib/session.ts";
import type { Page } from "playwright-core";

/** A product whose page can be opened. */
export interface Running {
  readonly url: string;
  /** Roots of the process trees that make the stream; the probe among their descendants is left out by its name. */
  readonly roots: readonly number[];
  /** Names of the processes that are the display server. */
  readonly displayNames: readonly string[];
  /** Waits for whatever the page needs before a stream flows. */
  prepare(page: Page): Promise<void>;
  /** Bytes sent to the page so far, and how they are counted. */
  traffic(page: Page): Promise<{ bytes: number; by: string }>;
  /** The product's own measurements, when it has any, as columns of the table. */
  ownFigures?(page: Page): Promise<Record<string, number>>;
  stop(): Promise<void>;
}

/** How the probe draws: at a beat of its own on an X server, or when its Wayland compositor asks for the next frame. */
export type Display = "x11" | "wayland";

/** A product. */
export interface Product {
  readonly name: string;
  /** What the game that it shows draws on. */
  readonly display: Display;
  start(format: Format, directory: string): Promise<Running>;
}
