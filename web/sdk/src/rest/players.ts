//! The player of this browser: made once, his token kept in the page's storage. It says nothing of who somebody is, only
//! that he comes back. Deliberately absent: accounts, and a way to carry a player to another browser.

import { Api, ApiError } from "./client.js";

/** A player and his token. Whoever has the token is this player: it belongs into no address and no log. */
export interface KnownPlayer {
  /** His id. */
  readonly player: string;
  readonly token: string;
}

/** What is used of `Storage`. */
export type PlayerStorage = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export interface PlayersOptions {
  /** Where the server is, or its client; the page's origin when not given. */
  readonly server?: Api | string | undefined;
  /** Where the token is kept; the page's `localStorage` when not given. */
  readonly storage?: PlayerStorage | undefined;
}

/** A server may know no players, or make them for its operator alone: then one plays as nobody. */
const NO_PLAYERS: readonly number[] = [401, 403, 404];

interface Place {
  readonly api: Api;
  readonly storage: PlayerStorage;
  readonly key: string;
}

/**
 * The player of this browser, made if there is none yet or if the server knows the kept one no longer. `null` where nothing
 * can be kept, or where the server makes none: one plays as nobody then.
 *
 * @throws ApiError when the server cannot be asked now.
 */
export async function ensurePlayer(options: PlayersOptions = {}, signal?: AbortSignal): Promise<KnownPlayer | null> {
  const place = open(options);
  if (place === null) return null;
  const known = read(place);
  if (known !== null) {
    if (await isKnown(place.api, known, signal)) return known;
    forget(place, known);
  }
  try {
    const { player, token } = await place.api.createPlayer(signal);
    // Another tab may have been faster: one of the two is enough.
    const meanwhile = read(place);
    if (meanwhile !== null) return meanwhile;
    const created = { player: player.id, token };
    place.storage.setItem(place.key, JSON.stringify(created));
    return created;
  } catch (error) {
    if (error instanceof ApiError && !NO_PLAYERS.includes(error.status)) throw error;
    signal?.throwIfAborted();
    return null;
  }
}

/** The player of this browser, if one was made; asks nobody. */
export function knownPlayer(options: PlayersOptions = {}): KnownPlayer | null {
  const place = open(options);
  return place === null ? null : read(place);
}

/** Erases the player of this browser, on the server and here. @throws ApiError: `player_busy` while he plays */
export async function erasePlayer(options: PlayersOptions = {}, signal?: AbortSignal): Promise<void> {
  const place = open(options);
  const known = place === null ? null : read(place);
  if (place === null || known === null) return;
  try {
    await place.api.eraseMe(known.token, signal);
  } catch (error) {
    // Who is not known there is erased already.
    if (!(error instanceof ApiError && error.status === 401)) throw error;
  }
  forget(place, known);
}

/** `null` where the page may keep nothing: storage is denied, or full. */
function open({ server, storage }: PlayersOptions): Place | null {
  const api = server instanceof Api ? server : new Api({ base: server });
  const key = `kite.player.${api.base.origin}`;
  try {
    const kept = storage ?? globalThis.localStorage;
    // A player who cannot be kept would be made at each visit.
    kept.setItem(`${key}.probe`, "1");
    kept.removeItem(`${key}.probe`);
    return { api, storage: kept, key };
  } catch {
    return null;
  }
}

/** What is kept, when it is a player. */
function read({ storage, key }: Place): KnownPlayer | null {
  try {
    const kept: unknown = JSON.parse(storage.getItem(key) ?? "null");
    if (typeof kept !== "object" || kept === null || !("player" in kept) || !("token" in kept)) return null;
    const { player, token } = kept;
    return typeof player === "string" && typeof token === "string" && token !== "" ? { player, token } : null;
  } catch {
    return null;
  }
}

/** Forgets this player, and no newer one of another tab. */
function forget(place: Place, known: KnownPlayer): void {
  if (read(place)?.token === known.token) place.storage.removeItem(place.key);
}

async function isKnown(api: Api, { token }: KnownPlayer, signal: AbortSignal | undefined): Promise<boolean> {
  try {
    await api.me(token, signal);
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) return false;
    throw error;
  }
}
