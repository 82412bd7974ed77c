/** An installation that is killed, as by a broken machine, and started again: the same data, the same address. */

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

import { binary, startKite } from "./kite.ts";
import type { Kite } from "./kite.ts";
import { start, until } from "./programs.ts";
import type { Program } from "./programs.ts";
import type { Server } from "./saves.ts";

/** Ends a program at once: it writes, says and removes nothing any more. False when it had ended already. */
export async function kill(program: Program): Promise<boolean> {
  const isKilled = program.exitCode() === null;
  if (isKilled) process.kill(program.pid, "SIGKILL");
  await until(`the killed ${program.name} is gone`, () => program.exitCode() !== null);
  return isKilled;
}

/** What a push says at its end. */
export interface Pushed {
  readonly release: number;
  /** The name of the release's root. */
  readonly content: string;
  readonly sent_bytes: number;
  readonly logical_bytes: number;
}

/** A line of the log about a bug or a loss. */
const FAULT = /^.*(?:ERROR|panicked at).*$/gm;

/** A service over a directory, which it makes. Whoever made it removes it. */
export class Service {
  readonly #directory: string;
  readonly #config: string;
  #kite: Kite | undefined;
  #starts = 0;
  #commands = 0;
  #port: number | undefined;

  constructor(directory: string, config: string) {
    this.#directory = directory;
    this.#config = config;
    mkdirSync(join(directory, "none"), { recursive: true, mode: 0o755 });
  }

  get storage(): string {
    return join(this.#directory, "data");
  }

  get server(): Server {
    if (this.#kite === undefined) throw new Error("the service is not up");
    return { base: this.#kite.base, storage: this.storage };
  }

  /** Starts it, unless it is up. */
  async up(): Promise<void> {
    if (this.#kite !== undefined) return;
    this.#starts += 1;
    this.#kite = await startKite({
      games: [join(this.#directory, "none")],
      sessions: 8,
      storage: this.storage,
      config: this.#config,
      log: this.#log(this.#starts),
      ...(this.#port === undefined ? {} : { port: this.#port }),
    });
    this.#port = Number(new URL(this.#kite.base).port);
  }

  #log(start: number): string {
    return join(this.#directory, `kite-${start}.log`);
  }

  async kill(): Promise<void> {
    if (this.#kite === undefined) return;
    await kill(this.#kite.program);
    rmSync(this.#kite.data, { recursive: true, force: true });
    this.#kite = undefined;
  }

  async stop(): Promise<void> {
    await this.#kite?.stop();
    this.#kite = undefined;
  }

  /** What it said of bugs and losses, of all starts. */
  faults(): string[] {
    const logs = Array.from({ length: this.#starts }, (_, index) => readFileSync(this.#log(index + 1), "utf8"));
    return logs.flatMap((log) => log.match(FAULT) ?? []);
  }

  /** Starts a `kite` command, like `app push`, that knows where the service is. */
  command(...arguments_: readonly string[]): Program {
    this.#commands += 1;
    const place = [`--data=${this.storage}`, ...(arguments_[0] === "app" ? [`--url=${this.server.base}`] : [])];
    return start({
      name: `kite ${arguments_.slice(0, 2).join(" ")}`,
      command: binary("kite"),
      arguments: [...arguments_, ...place],
      log: join(this.#directory, `command-${this.#commands}.log`),
    });
  }

  /** Starts to make a release of a package's directory. */
  pushing(directory: string): Program {
    return this.command("app", "push", directory, "--json");
  }

  /** Makes a release of a package's directory. */
  async pushed(directory: string): Promise<Pushed> {
    return JSON.parse(await done(this.pushing(directory))) as Pushed;
  }

  /** Looks at everything in the store that is needed; what is said of it, and whether all is well. */
  async verified(): Promise<{ isWell: boolean; said: string }> {
    const program = this.command("content", "verify");
    await until("the end of the look at the store", () => program.exitCode() !== null, 60_000);
    return { isWell: program.exitCode() === 0, said: program.output() };
  }
}

/** Waits until a program has ended by itself; what it said. Throws with it when it failed. */
export async function done(program: Program, timeoutMs = 60_000): Promise<string> {
  await until(`the end of ${program.name}`, () => program.exitCode() !== null, timeoutMs);
  if (program.exitCode() !== 0) throw new Error(`${program.name} ended with ${program.exitCode()}:\n${program.output()}`);
  return program.output();
}
