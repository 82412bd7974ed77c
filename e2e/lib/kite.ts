/** Starts and stops a whole Kite installation for one test or benchmark. */

import { chmodSync, cpSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { freePort, start, until } from "./programs.ts";
import type { Program } from "./programs.ts";

/** The checkout. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Media ports that an installation gets: as many as sessions that a test can have at once. */
const MEDIA_PORTS = 40;

/** Limits that stop no test, and short graces, so that what a failed test left behind goes soon. */
export const WIDE_LIMITS = `
[limits]
sessions_per_player = 100
creations_per_minute = 6000
creation_burst = 1000
offers_per_minute = 600
reconnect_grace_s = 12
link_grace_s = 5
`;

/** Directory of the built programs. */
export function binaries(): string {
  return process.env["KITE_BIN_DIR"] ?? join(process.env["CARGO_TARGET_DIR"] ?? join(ROOT, "target"), "debug");
}

/** Path of a built program. */
export function binary(name: string): string {
  const path = join(binaries(), name);
  if (!existsSync(path)) throw new Error(`${path} is not built: run ./x build`);
  return path;
}

/** A running `kite up`. */
export interface Kite {
  /** Like `http://127.0.0.1:40123`. */
  readonly base: string;
  /** Directory of the database and everything else that is kept. */
  readonly data: string;
  readonly program: Program;
  /** Ends it and removes what it kept; throws when it does not end by itself. */
  stop(): Promise<void>;
}

/** What can be chosen for an installation. */
export interface KiteOptions {
  /** Directories of packages, or packages; the demo games when not given. */
  readonly games?: readonly string[];
  /** Sessions at once. */
  readonly sessions?: number;
  /** First and last media port, when they have to be known. */
  readonly mediaPorts?: readonly [number, number];
  /** More arguments of `kite up`. */
  readonly arguments?: readonly string[];
  /** `config.toml`; without it the limits are wide, so that a test can make many sessions. */
  readonly config?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Where the log goes; in the data directory when not given. */
  readonly log?: string;
  /**
   * The data directory, for data that is large, looked at, or kept for another start; a temporary one when not given. Whoever
   * gives it removes it.
   */
  readonly storage?: string;
  /** The port of pages and API, for a start that a browser shall take for the same server; a free one when not given. */
  readonly port?: number;
}

/** A package of the probe: its manifest and the built program next to it. */
export function probePackage(name: "probe-x11" | "probe-wayland", directory: string): string {
  const target = join(directory, name);
  mkdirSync(target, { recursive: true });
  cpSync(join(ROOT, "bench", "apps", name), target, { recursive: true });
  copyFileSync(binary(name), join(target, name));
  return target;
}

/** A new directory that other users of the machine may enter: instances run as users of their own. */
export function newDirectory(prefix: string): string {
  const directory = mkdtempSync(join(tmpdir(), prefix));
  chmodSync(directory, 0o755);
  return directory;
}

/** Starts `kite up` on a free port with data of its own, and waits until it is well. */
export async function startKite(options: KiteOptions = {}): Promise<Kite> {
  const data = newDirectory("kite-e2e-");
  const storage = options.storage ?? join(data, "data");
  mkdirSync(storage, { recursive: true, mode: 0o700 });
  writeFileSync(join(storage, "config.toml"), options.config ?? WIDE_LIMITS);
  const [port, mediaPort] = [options.port ?? (await freePort()), await freePort()];
  const ownPort = Math.min(mediaPort, 65_535 - MEDIA_PORTS);
  const [firstMediaPort, lastMediaPort] = options.mediaPorts ?? [ownPort, ownPort + MEDIA_PORTS - 1];
  const games = options.games ?? [join(ROOT, "games")];
  const program = start({
    name: "kite up",
    command: binary("kite"),
    arguments: [
      "up",
      `--listen=127.0.0.1:${port}`,
      `--data=${storage}`,
      `--runtime=${join(data, "run")}`,
      `--web=${join(ROOT, "web", "app", "dist")}`,
      `--ports=${firstMediaPort}-${lastMediaPort}`,
      ...games.map((directory) => `--games=${directory}`),
      ...(options.sessions === undefined ? [] : [`--sessions=${options.sessions}`]),
      ...(options.arguments ?? []),
    ],
    ...(options.environment ? { environment: options.environment } : {}),
    log: options.log ?? join(data, "kite.log"),
  });
  const base = `http://127.0.0.1:${port}`;
  try {
    await until("kite up", async () => {
      if (program.exitCode() !== null) throw new Error(`kite up ended with ${program.exitCode()}:\n${program.output()}`);
      return (await fetch(`${base}/healthz`).catch(() => undefined))?.ok;
    });
  } catch (error) {
    await program.stop();
    throw error;
  }
  return {
    base,
    data,
    program,
    async stop() {
      const output = program.output();
      await program.stop(15_000);
      if (program.exitCode() !== 0) throw new Error(`kite up ended with ${program.exitCode()}:\n${output.slice(-4000)}`);
      rmSync(data, { recursive: true, force: true });
    },
  };
}
