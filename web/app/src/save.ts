//! Versions of saves in words, and sorted by their games.

import type { Play, SaveVersion } from "@kite-cloud/sdk";
import { durationText } from "./time.ts";

const KINDS: Readonly<Record<SaveVersion["kind"], string>> = {
  final: "when the game ended",
  checkpoint: "while playing",
  chosen: "brought or gone back to",
};

const UNITS = ["bytes", "kB", "MB", "GB"] as const;

/** Decimal units, two digits where one would say little. */
export function sizeText(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${power > 0 && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${UNITS[power]}`;
}

/** Why it was made, how long was played until then where that is known, and how much it is. */
export function versionFacts(version: SaveVersion, play: Play | undefined): string[] {
  const playedMs = play === undefined ? null : Date.parse(version.created_at) - Date.parse(play.started_at);
  return [
    KINDS[version.kind],
    playedMs === null ? null : `${durationText(playedMs)} of play`,
    sizeText(version.bytes),
    version.files === 1 ? "1 file" : `${version.files} files and folders`,
  ].filter((text) => text !== null);
}

export interface GameSaves {
  readonly app: string;
  /** Newest first. */
  readonly versions: readonly SaveVersion[];
}

/** All saves after an app's versions became these. Games stay in their order: nothing moves away under a pointer. */
export function replaced(saves: readonly SaveVersion[], app: string, versions: readonly SaveVersion[]): SaveVersion[] {
  const all = saves.filter((version) => version.app !== app);
  const first = saves.findIndex((version) => version.app === app);
  all.splice(Math.max(0, first), 0, ...versions);
  return all;
}

/** A game each, the one that was saved last first. `saves` are newest first, as the server lists them. */
export function byGame(saves: readonly SaveVersion[]): GameSaves[] {
  const apps = [...new Set(saves.map(({ app }) => app))];
  return apps.map((app) => ({ app, versions: saves.filter((version) => version.app === app) }));
}
