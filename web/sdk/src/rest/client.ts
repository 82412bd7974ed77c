//! The REST calls of a player: the catalogue, himself, his saves, a session, an offer. Every call takes an `AbortSignal`
//! and ends in time.

import { traceparent } from "../core/trace.js";
import type {
  App,
  AppList,
  CreatedPlayer,
  CreatedSession,
  CreateSession,
  PlayerIdentity,
  PlayList,
  Problem,
  SaveList,
  SaveVersion,
  Session,
  SiteList,
} from "./types.js";

/** What the server refused, or that it could not be reached (`status` 0). `message` is a sentence for the player. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  /** The word of the problem: `no_capacity`, `token_expired` ...; `unreachable` without an answer. */
  readonly kind: string;
  readonly status: number;
  readonly remedy: string;
  readonly retryAfterMs: number | null;

  constructor(kind: string, status: number, message: string, remedy: string, retryAfterMs: number | null = null) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.remedy = remedy;
    this.retryAfterMs = retryAfterMs;
  }

  /** True where the same request may succeed later. */
  get isTemporary(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

const TYPE_PREFIX = "urn:kite:problem:";
/** An answer that takes longer is given up. An offer waits on the server until the game runs, up to 30 s. */
const TIMEOUT_MS = 45_000;
/** An archive has up to 256 MiB. Longer notices a dead line later; at half of it a line of 4 Mbit/s would bring none. */
const TRANSFER_TIMEOUT_MS = 900_000;

export interface Answer {
  readonly sdp: string;
  /** Where to DELETE the peer; `null` when the server told none. */
  readonly location: string | null;
}

export interface ApiOptions {
  /** Where the server is; the page's origin when not given. */
  readonly base?: string | undefined;
  /**
   * The W3C `traceparent` of a play, asked for once of each: of the page's own tracing. A new one when not given (`newTraceparent`), none for
   * `null`.
   */
  readonly traceparent?: (() => string) | null | undefined;
}

/** The `traceparent` of a new trace. `sampled`: its spans are exported, where the installation exports any. */
export function newTraceparent(sampled = true): string {
  return traceparent(crypto.getRandomValues(new Uint8Array(24)), sampled);
}

/** Which page of a history. */
export interface PlaysPage {
  /** Only plays before this session. */
  readonly before?: string | undefined;
  /** 1 to 100; 50 when not given. */
  readonly limit?: number | undefined;
}

/** Which saves are meant. */
export interface SavesOf {
  /** The app's name; all apps when not given. */
  readonly app?: string | undefined;
}

/** A version's files, to be kept outside of Kite. */
export interface SaveArchive {
  /** As tar: `home/...` of the player's home, `base/...` of the package. */
  readonly content: Blob;
  /** A name for the file, that tells the app and when the version was made. */
  readonly fileName: string;
}

const ME = "/v1/players/me";

export class Api {
  readonly base: URL;
  readonly #traceparent: (() => string) | null;

  constructor(options: ApiOptions = {}) {
    this.#traceparent = options.traceparent === undefined ? newTraceparent : options.traceparent;
    this.base = new URL(options.base ?? "/", globalThis.location?.href);
  }

  async #request(
    path: string,
    init: RequestInit,
    signal: AbortSignal | undefined,
    timeoutMs = TIMEOUT_MS,
  ): Promise<Response> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const request = { ...init, signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]) };
    const response = await fetch(new URL(path, this.base), request).catch((error) => unreachable(error, signal));
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** @throws ApiError */
  async apps(signal?: AbortSignal): Promise<AppList> {
    const response = await this.#request("/v1/apps", { headers: { accept: "application/json" } }, signal);
    return (await response.json()) as AppList;
  }

  /** @throws ApiError */
  async app(name: string, signal?: AbortSignal): Promise<App> {
    const path = `/v1/apps/${encodeURIComponent(name)}`;
    return (await (await this.#request(path, { headers: { accept: "application/json" } }, signal)).json()) as App;
  }

  /** The answer holds the player's token, once. @throws ApiError */
  async createPlayer(signal?: AbortSignal): Promise<CreatedPlayer> {
    return (await (await this.#request("/v1/players", { method: "POST" }, signal)).json()) as CreatedPlayer;
  }

  /** The player whose token this is. @throws ApiError */
  async me(playerToken: string, signal?: AbortSignal): Promise<PlayerIdentity> {
    const init = { headers: bearer(playerToken) };
    return (await (await this.#request(ME, init, signal)).json()) as PlayerIdentity;
  }

  /** Erases the player whose token this is. @throws ApiError: `player_busy` while a session of his lives */
  async eraseMe(playerToken: string, signal?: AbortSignal): Promise<void> {
    await this.#request(ME, { method: "DELETE", headers: bearer(playerToken) }, signal);
  }

  /** What this player played, newest first; the next page is `before` the last session of this one. @throws ApiError */
  async plays(playerToken: string, page: PlaysPage = {}, signal?: AbortSignal): Promise<PlayList> {
    const query = new URLSearchParams();
    if (page.before !== undefined) query.set("before", page.before);
    if (page.limit !== undefined) query.set("limit", String(page.limit));
    const init = { headers: bearer(playerToken) };
    return (await (await this.#request(`${ME}/plays?${query}`, init, signal)).json()) as PlayList;
  }

  /** Ends a session of this player, wherever it runs. Its save becomes a version soon after. @throws ApiError */
  async endMySession(playerToken: string, id: string, signal?: AbortSignal): Promise<Session> {
    const init = { method: "DELETE", headers: bearer(playerToken) };
    return (await (await this.#request(`${ME}/sessions/${encodeURIComponent(id)}`, init, signal)).json()) as Session;
  }

  /** Versions of this player's saves, newest first. @throws ApiError */
  async saves(playerToken: string, of: SavesOf = {}, signal?: AbortSignal): Promise<SaveList> {
    const init = { headers: bearer(playerToken) };
    return (await (await this.#request(savesPath(of), init, signal)).json()) as SaveList;
  }

  /** Goes back to a version: a new one with the same files follows all others. Its app's versions. @throws ApiError */
  async restoreSave(playerToken: string, version: string, signal?: AbortSignal): Promise<SaveList> {
    const init = { method: "POST", headers: bearer(playerToken) };
    const path = `${ME}/saves/${encodeURIComponent(version)}/restore`;
    return (await (await this.#request(path, init, signal)).json()) as SaveList;
  }

  /** Takes a version's files away. @throws ApiError */
  async saveArchive(playerToken: string, version: SaveVersion, signal?: AbortSignal): Promise<SaveArchive> {
    const init = { headers: bearer(playerToken) };
    const path = `${ME}/saves/${encodeURIComponent(version.id)}/archive`;
    const response = await this.#request(path, init, signal, TRANSFER_TIMEOUT_MS);
    const content = await response.blob().catch((error) => unreachable(error, signal));
    return { content, fileName: `${version.app}-${version.created_at.slice(0, 19).replaceAll(":", "-")}.tar` };
  }

  /** Brings an archive as a new version, after all others. The app's versions. @throws ApiError: `invalid_save` ... */
  async bringSave(playerToken: string, app: string, archive: Blob, signal?: AbortSignal): Promise<SaveList> {
    const headers = { ...bearer(playerToken), "content-type": "application/x-tar" };
    const init = { method: "POST", headers, body: archive };
    const path = `${ME}/apps/${encodeURIComponent(app)}/saves`;
    return (await (await this.#request(path, init, signal, TRANSFER_TIMEOUT_MS)).json()) as SaveList;
  }

  /** Erases this player's saves of an app, or of all apps. @throws ApiError */
  async eraseSaves(playerToken: string, of: SavesOf, signal?: AbortSignal): Promise<void> {
    await this.#request(savesPath(of), { method: "DELETE", headers: bearer(playerToken) }, signal);
  }

  /** The sites to which the way can be measured, for those who may play. @throws ApiError */
  async sites(signal?: AbortSignal, playerToken?: string): Promise<SiteList> {
    const headers = playerToken === undefined ? {} : bearer(playerToken);
    return (await (await this.#request("/v1/sites", { headers }, signal)).json()) as SiteList;
  }

  /** An offer of a data channel to a site's echo in, the answer out. @throws ApiError */
  async probeSite(site: string, sdp: string, signal?: AbortSignal, playerToken?: string): Promise<string> {
    const headers = {
      "content-type": "application/sdp",
      ...(playerToken === undefined ? {} : bearer(playerToken)),
    };
    const path = `/v1/sites/${encodeURIComponent(site)}/probe`;
    return (await this.#request(path, { method: "POST", headers, body: sdp }, signal)).text();
  }

  /** A session of the player whose token is given; of nobody without one. @throws ApiError */
  async createSession(request: CreateSession, signal?: AbortSignal, playerToken?: string): Promise<CreatedSession> {
    const headers = {
      "content-type": "application/json",
      ...(playerToken === undefined ? {} : bearer(playerToken)),
      ...(this.#traceparent === null ? {} : { traceparent: this.#traceparent() }),
    };
    const init = { method: "POST", headers, body: JSON.stringify(request) };
    return (await (await this.#request("/v1/sessions", init, signal)).json()) as CreatedSession;
  }

  /** @throws ApiError */
  async session(id: string, token: string, signal?: AbortSignal): Promise<Session> {
    const init = { headers: bearer(token) };
    return (await (await this.#request(sessionPath(id), init, signal)).json()) as Session;
  }

  /** Ends a session. Survives the page, so that a closed tab frees its place. @throws ApiError */
  async endSession(id: string, token: string): Promise<void> {
    await this.#request(sessionPath(id), { method: "DELETE", headers: bearer(token), keepalive: true }, undefined);
  }

  /** Takes the place that is offered. @throws ApiError */
  async accept(id: string, token: string): Promise<Session> {
    const response = await this.#request(
      `${sessionPath(id)}/accept`,
      { method: "POST", headers: bearer(token) },
      undefined,
    );
    return (await response.json()) as Session;
  }

  /** WHEP: the offer in, the answer out. @throws ApiError */
  async offer(path: string, token: string, sdp: string, signal?: AbortSignal): Promise<Answer> {
    const init = { method: "POST", headers: { ...bearer(token), "content-type": "application/sdp" }, body: sdp };
    const response = await this.#request(path, init, signal);
    return { sdp: await response.text(), location: response.headers.get("location") };
  }

  /** WHEP: the peer goes. @throws ApiError */
  async endPeer(location: string, token: string): Promise<void> {
    await this.#request(location, { method: "DELETE", headers: bearer(token), keepalive: true }, undefined);
  }

  /** Address of a WebSocket of the server. */
  socketUrl(path: string): URL {
    const url = new URL(path, this.base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url;
  }
}

export function sessionPath(id: string): string {
  return `/v1/sessions/${encodeURIComponent(id)}`;
}

function savesPath({ app }: SavesOf): string {
  return app === undefined ? `${ME}/saves` : `${ME}/saves?${new URLSearchParams({ app })}`;
}

function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

/** For what fails without the server's word. Throws always: an abort as it is, all else as an `ApiError`. */
function unreachable(error: unknown, signal: AbortSignal | undefined): never {
  signal?.throwIfAborted();
  const isLate = error instanceof DOMException && error.name === "TimeoutError";
  const detail = isLate ? "did not answer in time" : "cannot be reached";
  throw new ApiError("unreachable", 0, `The server ${detail}.`, "Check your connection and try again.");
}

async function refusal(response: Response): Promise<ApiError> {
  const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json") ?? false;
  const problem = isProblem ? ((await response.json().catch(() => null)) as Partial<Problem> | null) : null;
  const kind = problem?.type?.startsWith(TYPE_PREFIX) ? problem.type.slice(TYPE_PREFIX.length) : "unexpected_answer";
  const detail = problem?.detail ?? `The server answered with status ${response.status}.`;
  const retryAfterMs = problem?.retry_after_s == null ? null : problem.retry_after_s * 1000;
  return new ApiError(kind, response.status, detail, problem?.remedy ?? "Try again later.", retryAfterMs);
}
