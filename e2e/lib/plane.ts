/** A control plane on PostgreSQL without a single real node: for what thousands of simulated ones show. */

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { run } from "./disk.ts";
import { binary, newDirectory } from "./kite.ts";
import { freePort, start, until } from "./programs.ts";
import type { Program } from "./programs.ts";

/** What is played; no real node ever starts it. */
export const APP = "nothing";
const MANIFEST = `
name = "${APP}"
title = "Nothing"
summary = "What simulated nodes run."
[launch]
command = ["/bin/true"]
`;

/** Limits that stop no swarm, which has one address. */
const LIMITS = `
[limits]
sessions_per_player = 1000000
creations_per_minute = 1000000
creation_burst = 1000000
offers_per_minute = 600
connect_timeout_s = 5
`;

/** One process of the control plane. */
export interface Replica {
  readonly base: string;
  readonly link: string;
  program: Program;
  /** Ends it without a word. */
  kill(): Promise<void>;
  /** Starts it, and waits until it answers; how long that took, in milliseconds. */
  start(): Promise<number>;
}

export interface Plane {
  readonly replicas: readonly Replica[];
  readonly token: string;
  /** Of its database. */
  readonly database: string;
  readonly directory: string;
  /** Rows of a query. */
  query(sql: string): string;
  stop(): Promise<void>;
}

/** A new database of the server that `KITE_TEST_POSTGRES` names. */
function newDatabase(): string {
  const server = process.env["KITE_TEST_POSTGRES"];
  if (server === undefined) throw new Error("KITE_TEST_POSTGRES names no PostgreSQL server: ./x starts one");
  const name = `kite_${process.pid}_${Date.now()}`;
  run("psql", "-q", server, "-c", `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

async function newReplica(index: number, directory: string, config: string, isOneOfSeveral: boolean): Promise<Replica> {
  const [port, nodes] = [await freePort(), await freePort()];
  const base = `http://127.0.0.1:${port}`;
  let starts = 0;
  const launch = (): Program => {
    starts += 1;
    return start({
      name: `kite control ${index}`,
      command: binary("kite"),
      arguments: [
        "control",
        `--listen=127.0.0.1:${port}`,
        `--nodes=127.0.0.1:${nodes}`,
        `--data=${join(directory, `control-${index}`)}`,
        `--config=${config}`,
        `--games=${join(directory, "games")}`,
        `--secrets=${join(directory, "secrets")}`,
        ...(isOneOfSeveral ? [`--replica=127.0.0.1:${port}`] : []),
      ],
      environment: { KITE_LOG: "warn" },
      log: join(directory, `control-${index}-${starts}.log`),
    });
  };
  const healthy = async (): Promise<boolean> => (await fetch(`${base}/healthz`).catch(() => undefined))?.ok === true;
  const replica: Replica = {
    base,
    link: `127.0.0.1:${nodes}`,
    program: launch(),
    async kill() {
      process.kill(replica.program.pid, "SIGKILL");
      await until("its end", () => replica.program.exitCode() !== null, 10_000, 5);
    },
    async start() {
      const began = performance.now();
      replica.program = launch();
      await until("kite control", healthy, 60_000, 10);
      return performance.now() - began;
    },
  };
  await until("kite control", async () => (await fetch(`${base}/healthz`).catch(() => undefined)) !== undefined, 60_000, 20);
  return replica;
}

/** Starts a control plane of so many processes on a database of its own; the first leads. */
export async function startPlane(count = 1): Promise<Plane> {
  const directory = newDirectory("kite-plane-");
  const database = newDatabase();
  mkdirSync(join(directory, "games", APP), { recursive: true });
  writeFileSync(join(directory, "games", APP, "kite.toml"), MANIFEST);
  const config = join(directory, "config.toml");
  writeFileSync(config, `${LIMITS}\n[database]\nurl = "${database}"\n[store]\ndir = "${join(directory, "store")}"\n`, { mode: 0o600 });
  mkdirSync(join(directory, "secrets"), { mode: 0o700 });
  const replicas: Replica[] = [];
  for (let index = 1; index <= count; index++) replicas.push(await newReplica(index, directory, config, count > 1));
  return {
    replicas,
    database,
    directory,
    token: readFileSync(join(directory, "secrets", "operator-token"), "utf8").trim(),
    query: (sql) => run("psql", "-q", "-t", "-A", database, "-c", sql),
    async stop() {
      for (const replica of replicas) await replica.program.stop(20_000);
      const name = new URL(database).pathname.slice(1);
      run("psql", "-q", process.env["KITE_TEST_POSTGRES"] ?? "", "-c", `DROP DATABASE ${name} WITH (FORCE)`);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
