/** Starts programs, keeps what they say, ends them with everything below them. */

import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A program that runs. */
export interface Program {
  readonly name: string;
  readonly pid: number;
  /** The exit code, or `null` while it runs; a signal counts as 128 and its number unknown: -1. */
  exitCode(): number | null;
  /** Everything that it wrote, both streams. */
  output(): string;
  /** Ends it: SIGTERM, after `graceMs` SIGKILL. */
  stop(graceMs?: number): Promise<void>;
}

/** How to start a program. */
export interface ProgramOptions {
  readonly name: string;
  readonly command: string;
  readonly arguments?: readonly string[];
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly directory?: string;
  /** File that takes both output streams. */
  readonly log: string;
}

/** Groups that run: a test that is interrupted takes them with it. */
const groups = new Set<number>();

process.on("exit", () => {
  for (const group of groups) {
    try {
      // Not SIGKILL: they have children, mounts and sockets of their own to take back.
      process.kill(-group, "SIGTERM");
    } catch {
      // Gone already.
    }
  }
});
for (const [name, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
  process.once(name, () => process.exit(code));
}

/** Starts a program in a process group of its own. */
export function start(options: ProgramOptions): Program {
  const log = openSync(options.log, "w");
  const child: ChildProcess = spawn(options.command, [...(options.arguments ?? [])], {
    cwd: options.directory,
    env: { ...process.env, ...options.environment },
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  const failure: { error?: Error } = {};
  child.on("error", (error) => (failure.error = error));
  if (child.pid === undefined) throw new Error(`${options.name}: cannot start ${options.command}`);
  const pid = child.pid;
  groups.add(pid);
  child.on("exit", () => groups.delete(pid));
  const ended = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const signal = (name: NodeJS.Signals): void => {
    try {
      process.kill(-pid, name);
    } catch {
      // The group is gone already.
    }
  };
  return {
    name: options.name,
    pid,
    exitCode: () => child.exitCode ?? (child.signalCode === null ? null : -1),
    output: () => readFileSync(options.log, "utf8"),
    async stop(graceMs = 5000) {
      signal("SIGTERM");
      for (const deadline = Date.now() + graceMs; !ended() && Date.now() < deadline; ) await sleep(20);
      signal("SIGKILL");
      while (!ended()) await sleep(10);
    },
  };
}

/** Waits until `condition` is truthy and returns it; throws with `what` after `timeoutMs`. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  timeoutMs = 10_000,
  everyMs = 50,
): Promise<NonNullable<T>> {
  for (const deadline = Date.now() + timeoutMs; ; await sleep(everyMs)) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
  }
}

/** A TCP port of the loopback that nobody uses at the moment. */
export async function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
