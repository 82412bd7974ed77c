/**
 * `./x bench billing [--intervals 10000000] [--seed 1]`
 *
 * How fast usage is rated, on one core: intervals of many orders to posted lines, each amount compared with a computation that shares nothing with the
 * crate. The last line of standard output is one JSON object; a mismatch ends it with an error.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { binary } from "e2e/lib/kite.ts";

import { lastLine } from "../content/figures.ts";
import { output } from "../content/steps.ts";
import { newResults } from "../lib/results.ts";

interface Figures {
  readonly intervals: number;
  readonly intervals_per_s: number;
  readonly facts_per_s: number;
  readonly orders: number;
  readonly lines: number;
  readonly rss_mb: number;
  readonly mismatch_minor_units: number;
  readonly mismatch_ms: number;
}

function isFigures(value: Readonly<Record<string, unknown>>): value is Readonly<Record<keyof Figures, number>> {
  return typeof value["intervals_per_s"] === "number" && typeof value["mismatch_minor_units"] === "number";
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { intervals: { type: "string", default: "10000000" }, seed: { type: "string", default: "1" } },
  });
  if (!(Number(values.intervals) >= 1)) throw new Error("--intervals: a number of at least 1");
  const printed = lastLine<Readonly<Record<string, unknown>>>(await output(binary("examples/rate"), [values.intervals, values.seed]));
  if (!isFigures(printed)) throw new Error(`rate printed ${JSON.stringify(printed)}`);
  writeFileSync(join(newResults("billing"), "result.json"), JSON.stringify(printed, undefined, 1));
  process.stdout.write(`${JSON.stringify(printed)}\n`);
  if (printed.mismatch_minor_units !== 0 || printed.mismatch_ms !== 0) throw new Error(`amounts differ from the naive ones; seed ${values.seed}`);
}

await main();
