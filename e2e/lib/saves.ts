/** Releases, players and their saves by the REST API and the `kite` command, as tests of several specs need them. */

import { spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { binary } from "./kite.ts";
import { until } from "./programs.ts";

/** Where an installation answers, and where it keeps what it keeps. */
export interface Server {
  readonly base: string;
  /** Its `--data`. */
  readonly storage: string;
}

/** A version of a save, as the API lists it. */
export interface Version {
  readonly id: string;
  readonly app: string;
  readonly parents: readonly string[];
  readonly is_newest: boolean;
  readonly bytes: number;
  readonly files: number;
  readonly kind: "checkpoint" | "final" | "chosen";
  readonly settled: boolean;
  readonly session?: string;
  readonly created_at: string;
}

/** Runs `kite app …` against an installation; its standard output. Throws when it fails. */
export function kiteApp(server: Server, ...arguments_: readonly string[]): string {
  const run = spawnSync(binary("kite"), ["app", ...arguments_, `--url=${server.base}`, `--data=${server.storage}`], {
    encoding: "utf8",
    timeout: 60_000,
  });
  if (run.status !== 0) throw new Error(`kite app ${arguments_.join(" ")} ended with ${run.status}:\n${run.stdout}${run.stderr}`);
  return run.stdout;
}

/** Makes a release of a package's directory; its number. */
export function push(server: Server, directory: string, ...more: readonly string[]): number {
  const { release } = JSON.parse(kiteApp(server, "push", directory, "--json", ...more)) as { release: number };
  return release;
}

/** The operator's token of an installation. */
export function operatorToken(server: Server): string {
  return readFileSync(join(server.storage, "operator-token"), "utf8").trim();
}

/** A request with a bearer token; bytes go as an archive, everything else as JSON. */
export async function ask(server: Server, token: string, method: string, path: string, body?: unknown): Promise<Response> {
  const headers = { authorization: `Bearer ${token}` };
  const url = `${server.base}${path}`;
  if (body === undefined) return fetch(url, { method, headers });
  const isArchive = body instanceof Uint8Array;
  return fetch(url, {
    method,
    headers: { ...headers, "content-type": isArchive ? "application/x-tar" : "application/json" },
    body: isArchive ? new Blob([new Uint8Array(body)]) : JSON.stringify(body),
  });
}

/** The answer's JSON; throws with its text when it is a refusal. */
export async function answer<T>(response: Response): Promise<T> {
  const text = await response.text();
  if (!response.ok) throw new Error(`${response.status} ${response.url}: ${text}`);
  return JSON.parse(text) as T;
}

/** A new player's token. */
export async function newPlayer(server: Server): Promise<string> {
  const created = await answer<{ token: string }>(await fetch(`${server.base}/v1/players`, { method: "POST" }));
  return created.token;
}

/** A player's versions, newest first. */
export async function versions(server: Server, player: string, app: string): Promise<Version[]> {
  const listed = await ask(server, player, "GET", `/v1/players/me/saves?app=${app}`);
  return (await answer<{ saves: Version[] }>(listed)).saves;
}

/** Names and contents of the files of an archive. Reads what the server writes: plain tar with long names as PAX or GNU. */
export function untar(archive: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (from: number, length: number): string =>
    Buffer.from(archive.subarray(from, from + length)).toString("utf8").replace(/\0.*$/s, "");
  let longName: string | undefined;
  for (let at = 0; at + 512 <= archive.length; ) {
    const size = Number.parseInt(text(at + 124, 12).trim() || "0", 8);
    const [kind, content] = [text(at + 156, 1), archive.subarray(at + 512, at + 512 + size)];
    const prefix = text(at + 345, 155);
    const name = longName ?? (prefix === "" ? text(at, 100) : `${prefix}/${text(at, 100)}`);
    if (text(at, 100) === "" && kind === "") break;
    longName = undefined;
    if (kind === "L") longName = Buffer.from(content).toString("utf8").replace(/\0.*$/s, "");
    else if (kind === "x") longName = /\d+ path=([^\n]*)\n/.exec(Buffer.from(content).toString("utf8"))?.[1];
    else if (kind === "0" || kind === "") files.set(name, content);
    at += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

/** The bytes of a version's archive. */
export async function archiveOf(server: Server, player: string, version: string): Promise<Uint8Array> {
  const response = await ask(server, player, "GET", `/v1/players/me/saves/${version}/archive`);
  if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Waits until a newest version of the save has a file whose name matches; the version and the name. */
export async function savedFile(
  server: Server,
  player: string,
  app: string,
  name: RegExp,
  timeoutMs = 30_000,
): Promise<{ version: Version; name: string; content: Uint8Array }> {
  return until(
    `a version with ${name}`,
    async () => {
      for (const version of (await versions(server, player, app)).filter((version) => version.is_newest)) {
        const found = [...untar(await archiveOf(server, player, version.id))].find(([path]) => name.test(path));
        if (found) return { version, name: found[0], content: found[1] };
      }
      return undefined;
    },
    timeoutMs,
    250,
  );
}

/** A session that runs without anybody who looks at it. */
export interface Running {
  readonly id: string;
  /** The session's own token. */
  readonly token: string;
}

/** Starts a session of a player and waits until the game has drawn something. */
export async function begin(server: Server, player: string, app: string, more: object = {}): Promise<Running> {
  const spec = { width: 320, height: 180, frames_per_second: 10 };
  const created = await ask(server, player, "POST", "/v1/sessions", { app, spec, resizable: false, ...more });
  const { session, token } = await answer<{ session: { id: string }; token: string }>(created);
  await until(`the first frame of ${app}`, async () => {
    const now = await answer<SessionView>(await ask(server, token, "GET", `/v1/sessions/${session.id}`));
    if (now.state.state === "ended") throw new Error(`the session ended: ${now.state.reason}, ${now.sentence}`);
    return now.first_frame;
  }, 60_000);
  return { id: session.id, token };
}

interface SessionView {
  readonly first_frame: boolean;
  readonly sentence: string;
  readonly state: { readonly state: string; readonly reason?: string };
}

/** Waits until a session has ended, and with it until its save is a version; why it ended. */
export async function over(server: Server, { id, token }: Running): Promise<string> {
  return until("the session's end", async () => {
    const now = await answer<SessionView>(await ask(server, token, "GET", `/v1/sessions/${id}`));
    return now.state.state === "ended" ? now.state.reason : undefined;
  }, 30_000);
}

/** Ends a session as its player does, and waits until it has ended. */
export async function finish(server: Server, running: Running): Promise<void> {
  await ask(server, running.token, "DELETE", `/v1/sessions/${running.id}`);
  await over(server, running);
}

/** A refusal: its kind, like `save_conflict`, and its sentence. Throws when it has another status. */
export async function refusal(response: Response, status: number): Promise<{ kind: string; detail: string }> {
  const text = await response.text();
  if (response.status !== status) throw new Error(`${response.status} instead of ${status}: ${text}`);
  const { type, detail } = JSON.parse(text) as { type: string; detail: string };
  return { kind: type.replace("urn:kite:problem:", ""), detail };
}

/**
 * A package of the probe whose program first runs a shell script, as user of the game, with `$base` as the package's directory.
 * `manifest` is appended to its `kite.toml`.
 */
export function scripted(directory: string, name: string, script: string, manifest: string): string {
  const place = join(directory, name);
  mkdirSync(place, { recursive: true });
  writeFileSync(
    join(place, "kite.toml"),
    `name = "${name}"\ntitle = "${name}"\nsummary = "A game that writes."\ndisplay = "wayland"\n` +
      `[launch]\ncommand = ["<base>/run"]\n[limits]\nmemory_mb = 256\ncpus = 1.0\nprocesses = 16\n` +
      `[spec]\nmin = { width = 320, height = 180, frames_per_second = 10 }\n${manifest}`,
  );
  writeFileSync(join(place, "run"), `#!/bin/sh\nbase=$(dirname "$0")\n${script}\nexec "$base/probe-wayland"\n`);
  chmodSync(join(place, "run"), 0o755);
  copyFileSync(binary("probe-wayland"), join(place, "probe-wayland"));
  return place;
}
