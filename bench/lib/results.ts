/** Where benchmarks keep logs, plots and raw observations. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { ROOT } from "e2e/lib/kite.ts";

/** Makes a directory for one run of a benchmark. */
export function newResults(benchmark: string): string {
  const directory = join(ROOT, "bench-results", `${benchmark}-${new Date().toISOString().replaceAll(/[:.]/g, "-")}`);
  mkdirSync(directory, { recursive: true });
  return directory;
}
