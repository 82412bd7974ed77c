/** Thousands of simulated nodes and players, which a program of its own plays: see `crates/swarm`. */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { binary } from "./kite.ts";

export interface Percentiles {
  readonly count: number;
  readonly p50: number | null;
  readonly p99: number | null;
  readonly max: number | null;
}

/** What the swarm counted since its start, and measured since its last line. */
export interface SwarmReport {
  readonly what: string;
  /** Nodes that have a link. */
  readonly nodes: number;
  readonly began: number;
  /** Plays that are not over. */
  readonly live: number;
  /** Those with an open link. */
  readonly linked: number;
  /** Those whose session says that the player is there. */
  readonly connected: number;
  readonly ended: Readonly<Record<string, number>>;
  readonly refused: Readonly<Record<string, number>>;
  /** From the request to the place. */
  readonly claim_ms: Percentiles;
  /** From the request until the streamer takes offers. */
  readonly ready_ms: Percentiles;
  /** Instances that run on nodes. */
  readonly instances: number;
  readonly instances_started: number;
  /** What must never be, and the first of them in words. */
  readonly violations: number;
  readonly told: readonly string[];
}

export interface SwarmOptions {
  readonly urls: readonly string[];
  readonly links: readonly string[];
  readonly token: string;
  readonly app: string;
  readonly nodes: number;
  readonly places: number;
  readonly startMs?: number;
}

export interface Swarm {
  readonly joined: SwarmReport;
  /** Gives a command and waits until it is done. */
  ask(...words: readonly (string | number)[]): Promise<SwarmReport>;
  stop(): void;
}

/** Starts a swarm, and waits until all of its nodes have joined. */
export async function startSwarm(options: SwarmOptions): Promise<Swarm> {
  const child = spawn(
    binary("swarm"),
    [
      ...options.urls.map((url) => `--url=${url}`),
      ...options.links.map((link) => `--link=${link}`),
      `--app=${options.app}`,
      `--nodes=${options.nodes}`,
      `--places=${options.places}`,
      `--start-ms=${options.startMs ?? 500}`,
    ],
    { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, KITE_TOKEN: options.token } },
  );
  const kill = (): void => void child.kill("SIGKILL");
  process.once("exit", kill);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<SwarmReport> => {
    const line = await lines.next();
    if (line.done === true) throw new Error("the swarm ended");
    return JSON.parse(line.value) as SwarmReport;
  };
  return {
    joined: await next(),
    async ask(...words) {
      child.stdin.write(`${words.join(" ")}\n`);
      return next();
    },
    stop() {
      process.removeListener("exit", kill);
      kill();
    },
  };
}
