/** A PostgreSQL server of a test's own, on an address of its choice: for what a server on the loopback cannot show. */

import { randomBytes } from "node:crypto";
import { appendFileSync, chmodSync, chownSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { run } from "./disk.ts";
import { freePort } from "./programs.ts";

export interface Postgres {
  /** With a database of its own, and its password. */
  readonly url: string;
  /** Rows of a query, by this machine's own way. */
  query(sql: string): string;
  stop(): void;
}

function programs(): string {
  const root = "/usr/lib/postgresql";
  const newest = readdirSync(root).sort((a, b) => Number(a) - Number(b)).at(-1);
  if (newest === undefined) throw new Error("PostgreSQL is missing: ./x setup installs it");
  return join(root, newest, "bin");
}

/** Starts one that takes connections of this address's network. As root, which the server itself refuses to be. */
export async function startPostgres(address: string): Promise<Postgres> {
  // Short: the path of a socket has 107 bytes.
  const home = mkdtempSync(join(tmpdir(), "kite-pg-"));
  const user = (flag: string): number => Number(run("id", flag, "postgres"));
  chownSync(home, user("-u"), user("-g"));
  chmodSync(home, 0o700);
  const bin = programs();
  const asServer = (program: string, ...args: readonly string[]): string =>
    run("runuser", "-u", "postgres", "--", "env", "-C", home, join(bin, program), ...args);
  const port = await freePort();
  asServer("initdb", "-D", "data", "-U", "admin", "-E", "UTF8", "--auth-local=trust", "--auth-host=scram-sha-256");
  appendFileSync(join(home, "data", "pg_hba.conf"), `host all all ${address}/24 scram-sha-256\n`);
  asServer("pg_ctl", "start", "-s", "-w", "-D", "data", "-l", "log", "-o", `-p ${port} -h ${address} -k ${home} -c shared_buffers=32MB`);
  const local = (database: string, sql: string): string => run("psql", "-q", "-t", "-A", "-h", home, "-p", String(port), "-U", "admin", database, "-c", sql);
  const password = randomBytes(16).toString("hex");
  local("postgres", `CREATE ROLE kite LOGIN PASSWORD '${password}'`);
  local("postgres", "CREATE DATABASE kite OWNER kite");
  return {
    url: `postgres://kite:${password}@${address}:${port}/kite`,
    query: (sql) => local("kite", sql),
    stop() {
      asServer("pg_ctl", "stop", "-s", "-D", "data", "-m", "immediate");
      rmSync(home, { recursive: true, force: true });
    },
  };
}
