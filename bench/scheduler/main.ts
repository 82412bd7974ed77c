/**
 * `./x bench scheduler [--nodes 1000,10000,100000]`
 *
 * How fast the scheduler decides, on one core, as fleets grow: with room, and full with a queue. A decision is an ending and a request, and
 * whatever follows from both. The last line of standard output is one JSON object.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { binary } from "e2e/lib/kite.ts";

import { lastLine } from "../content/figures.ts";
import { output } from "../content/steps.ts";
import { newResults } from "../lib/results.ts";

/** Sessions a node, in a fleet with room: half of what it takes. */
const SESSIONS_PER_NODE = 10;
/** More than any fleet takes: it is filled until a thousand wait. */
const UNTIL_FULL = 1e9;

interface Figures {
  readonly nodes: number;
  readonly sessions: number;
  readonly queued: number;
  /** Of a second of one processor, however much of it others take. */
  readonly decisions_per_s: number;
  readonly decisions_per_wall_s: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly max_us: number;
  readonly rss_mib: number;
}

function isFigures(value: Readonly<Record<string, unknown>>): value is Readonly<Record<keyof Figures, number>> {
  return typeof value["decisions_per_s"] === "number" && typeof value["p99_us"] === "number";
}

async function measure(nodes: number, sessions: number): Promise<Figures> {
  const printed = lastLine<Readonly<Record<string, unknown>>>(await output(binary("examples/decide"), [String(nodes), String(sessions)]));
  if (!isFigures(printed)) throw new Error(`decide printed ${JSON.stringify(printed)}`);
  process.stderr.write(`${JSON.stringify(printed)}\n`);
  return printed;
}

function by(figures: readonly Figures[], name: keyof Figures): Record<string, number> {
  return Object.fromEntries(figures.map((one) => [String(one.nodes), one[name]]));
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { nodes: { type: "string", default: "1000,10000,100000" } } });
  const counts = values.nodes.split(",").map(Number);
  if (counts.some((count) => !(count >= 20))) throw new Error("--nodes: numbers of at least 20, separated by commas");
  const [withRoom, full]: [Figures[], Figures[]] = [[], []];
  for (const nodes of counts) {
    withRoom.push(await measure(nodes, nodes * SESSIONS_PER_NODE));
    full.push(await measure(nodes, UNTIL_FULL));
  }
  const result = {
    decisions_per_s: by(withRoom, "decisions_per_s"),
    p99_us: by(withRoom, "p99_us"),
    full: { decisions_per_s: by(full, "decisions_per_s"), p99_us: by(full, "p99_us"), queued: by(full, "queued") },
    sessions: Math.max(...withRoom.map((one) => one.sessions)),
    rss_mb: Math.max(...withRoom.map((one) => one.rss_mib)),
    runs: [...withRoom, ...full],
  };
  writeFileSync(join(newResults("scheduler"), "result.json"), JSON.stringify(result, undefined, 1));
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

await main();
