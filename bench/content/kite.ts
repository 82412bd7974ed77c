/** Kite as it is shipped: `kite app push` to a running `kite up`, and a release that is brought to the site. */

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { binary, startKite } from "e2e/lib/kite.ts";
import { until } from "e2e/lib/programs.ts";

import { lastLine } from "./figures.ts";
import type { Product } from "./product.ts";
import { sizeOf, timedCommand, timedWork } from "./steps.ts";

/** What `kite app push --json` prints at its end. */
interface Pushed {
  readonly release: string;
  readonly logical_bytes: number;
  readonly sent_bytes: number;
  readonly received_bytes: number;
  readonly chunks: number;
  readonly new_chunks: number;
  readonly seconds: number;
}

/** What is read of a release's replica at a site. */
interface Replica {
  readonly state: string;
  readonly bytes_fetched?: number | null;
}

/** Longest that a release may take to the site: an hour is more than any size here needs. */
const SYNC_TIMEOUT_MS = 3_600_000;
/** How often the state is asked for. More often costs the server something, more rarely is an error of the time. */
const POLL_MS = 10;

/** A request of the operator; throws with what the server said when it is refused. */
async function ask(base: string, token: string, method: "GET" | "POST", path: string, body?: unknown): Promise<unknown> {
  const response = await fetch(`${base}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 1000)}`);
  return text === "" ? undefined : JSON.parse(text);
}

async function replicated(base: string, token: string, path: string): Promise<Replica> {
  await ask(base, token, "POST", path, { policy: "pinned" });
  return until(
    `${path} is present`,
    async () => {
      const replica = (await ask(base, token, "GET", path)) as Replica;
      if (replica.state === "corrupt" || replica.state === "failed") throw new Error(`${path}: ${JSON.stringify(replica)}`);
      return replica.state === "present" ? replica : undefined;
    },
    SYNC_TIMEOUT_MS,
    POLL_MS,
  );
}

/** Kite; `app` is the name in the package's manifest. */
export function kite(app: string): Product {
  return {
    name: "kite",
    async start(directory) {
      const [games, data] = [join(directory, "games"), join(directory, "data")];
      mkdirSync(games);
      const installation = await startKite({ games: [games], log: join(directory, "kite.log"), storage: data });
      const servers = [installation.program.pid];
      const token = readFileSync(join(data, "operator-token"), "utf8").trim();
      let release: string | undefined;
      return {
        async push({ directory: source, bytes }) {
          const before = sizeOf(data);
          const command = ["app", "push", source, "--url", installation.base, "--data", data, "--json"];
          const { out, wall_s, cpu_s } = await timedCommand({ source, target: directory, servers }, binary("kite"), command).catch(
            (error: unknown) => {
              if (!String(error).includes("unrecognized subcommand")) throw error;
              throw new Error("this `kite` has no `kite app push`: build one that has it (./x build)", { cause: error });
            },
          );
          const pushed = lastLine<Pushed>(out);
          // A push that leaves something out would win for the wrong reason.
          if (pushed.logical_bytes < bytes * 0.999) throw new Error(`pushed ${pushed.logical_bytes} of ${bytes} bytes`);
          release = pushed.release;
          const { logical_bytes, received_bytes, chunks, new_chunks } = pushed;
          const more = { logical_bytes, received_bytes, chunks, new_chunks, own_s: pushed.seconds };
          return { wall_s, cpu_s, sent_bytes: pushed.sent_bytes, stored_bytes: sizeOf(data) - before, more };
        },
        async sync() {
          if (release === undefined) throw new Error("nothing was pushed");
          const path = `/v1/apps/${app}/releases/${release}/replicas/local`;
          const around = { source: data, target: directory, servers };
          const { result, ...costs } = await timedWork(around, () => replicated(installation.base, token, path));
          return { ...costs, sent_bytes: result.bytes_fetched ?? null, stored_bytes: null };
        },
        stop: () => installation.stop(),
      };
    },
  };
}
