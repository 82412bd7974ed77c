//! What a player does with the versions of his save, once he has said so. Each ends in a sentence for him.

import { type Api, ApiError, ensurePlayer, knownPlayer, type SaveVersion } from "@kite-cloud/sdk";
import { whenText } from "./time.ts";

/** The versions that an app has now. */
export type Changed = (app: string, versions: readonly SaveVersion[]) => void;

/** @throws ApiError */
export async function download(api: Api, version: SaveVersion): Promise<string> {
  const { content, fileName } = await api.saveArchive(tokenOf(api), version);
  keep(content, fileName);
  return `The save is downloaded as “${fileName}”.`;
}

/** @throws ApiError */
export async function goBack(api: Api, version: SaveVersion, changed: Changed): Promise<string> {
  changed(version.app, (await api.restoreSave(tokenOf(api), version.id)).saves);
  return `The next play begins with the save of ${whenText(version.created_at, true)}.`;
}

/** Who brings a save is a player, also where he has not played yet. @throws ApiError */
export async function bring(api: Api, app: string, archive: File, changed: Changed): Promise<string> {
  const player = await ensurePlayer({ server: api });
  if (player === null) {
    const remedy = "Allow this site to keep data, and try again.";
    throw new ApiError("no_player", 0, "This browser keeps nothing, so nobody would find the save again.", remedy);
  }
  changed(app, (await api.bringSave(player.token, app, archive)).saves);
  return `“${archive.name}” was brought. The next play begins with it.`;
}

/** @throws ApiError */
export async function erase(api: Api, app: string, changed: Changed): Promise<string> {
  await api.eraseSaves(tokenOf(api), { app });
  changed(app, []);
  return "The saves are deleted.";
}

/** Of the player whose saves are shown. Without him the server refuses. */
function tokenOf(api: Api): string {
  return knownPlayer({ server: api })?.token ?? "";
}

/** How long the browser may take to read what it saves. */
const KEPT_MS = 60_000;

/** Hands a file to the browser's downloads. */
function keep(content: Blob, fileName: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
}
