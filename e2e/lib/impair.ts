/** A bad network path between the player and the streamer: the `impair` proxy, under this process's command. */

import { spawn } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { createInterface } from "node:readline";

import { binary } from "./kite.ts";

/** A proxy that runs. */
export interface Impairment {
  /** UDP port that the player has to be told. */
  readonly port: number;
  /** Changes conditions, like `both delay=25 loss=0.03` or `down rate=2000`. */
  set(conditions: string): void;
  stop(): void;
}

/** Starts a proxy on `port` that passes everything on to `target`, both on the loopback unless they name an address. */
export async function impair(port: number | string, target: number | string, conditions = "", seed = 1): Promise<Impairment> {
  const at = (place: number | string): string => (typeof place === "number" ? `127.0.0.1:${place}` : place);
  const child: ChildProcessWithoutNullStreams = spawn(
    binary("impair"),
    ["--listen", at(port), "--to", at(target), "--seed", `${seed}`, ...conditions.split(" ").filter(Boolean)],
    { stdio: ["pipe", "pipe", "pipe"] },
  );
  const ready = await new Promise<number>((resolve, reject) => {
    child.on("exit", (code) => reject(new Error(`impair ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const match = /^ready (\d+)$/.exec(line);
      if (match) resolve(Number(match[1]));
    });
  });
  return {
    port: ready,
    set: (text) => void child.stdin.write(`${text}\n`),
    stop: () => child.stdin.end(),
  };
}
