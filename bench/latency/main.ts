/**
 * `./x bench latency [--peer selkies] [--product NAME ...] [--format 720p60 ...] [--inputs N] [--rounds N] [--seed N]`
 *
 * Click-to-photon of Kite and its peers in real Chromium, with the same probe, the same camera on the display and the same keys.
 * The last line of standard output is one JSON object.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import type { Format } from "e2e/lib/session.ts";

import { newResults } from "../lib/results.ts";
import { kite } from "../products/kite.ts";
import type { Display, Product } from "../products/product.ts";
import { selkies } from "../products/selkies.ts";
import { clickToPhotonMs, judge, ratios } from "./judge.ts";
import type { Ratios, Run } from "./judge.ts";
import { measure } from "./measure.ts";
import type { Observation, Plan } from "./measure.ts";
import { plot } from "./plot.ts";

const FORMATS: Readonly<Record<string, Format>> = {
  "720p60": { width: 1280, height: 720, framesPerSecond: 60 },
  "1080p60": { width: 1920, height: 1080, framesPerSecond: 60 },
};

const DISPLAYS: readonly Display[] = ["x11", "wayland"];
const PRODUCTS: readonly Product[] = DISPLAYS.flatMap((display) => [
  kite(display),
  selkies("websockets", display),
  selkies("webrtc", display),
]);
/** Time for encoders, rate control and the browser's decoder to settle. */
const WARM_UP_MS = 5000;
/** How the names of what the ratios are of begin; measured when no product is named. */
const OURS = "kite";

interface Options {
  readonly products: readonly Product[];
  readonly formats: readonly string[];
  readonly inputs: number;
  readonly rounds: number;
  readonly seed: number;
}

function options(): Options {
  const { values } = parseArgs({
    options: {
      peer: { type: "string", multiple: true, default: [] },
      product: { type: "string", multiple: true },
      format: { type: "string", multiple: true, default: Object.keys(FORMATS) },
      inputs: { type: "string", default: "150" },
      rounds: { type: "string", default: "3" },
      seed: { type: "string", default: "1" },
    },
  });
  for (const name of values.format) {
    if (!(name in FORMATS)) throw new Error(`no format is called ${name}: ${Object.keys(FORMATS).join(", ")}`);
  }
  const wanted = (product: Product): boolean =>
    values.product
      ? values.product.includes(product.name)
      : [OURS, ...values.peer].some((begin) => product.name.startsWith(begin));
  const products = PRODUCTS.filter(wanted);
  if (products.length === 0) throw new Error(`no such product; there are ${PRODUCTS.map(({ name }) => name).join(", ")}`);
  const [inputs, rounds, seed] = [Number(values.inputs), Number(values.rounds), Number(values.seed)];
  if (!(rounds >= 1 && inputs >= rounds)) throw new Error("at least one round, and at least one input a round");
  return { products, formats: values.format, inputs, rounds, seed };
}

function table(runs: readonly Run[]): string {
  const head = ["product", "size", "median", "p95", "p99", "ev>ph", "in", "app", "pic", "fps", "age", "cpu", "X", "brow", "MB", "Mbit/s", "load", "late", "lost", ""];
  const rows = runs.map((run) => [
    run.product,
    `${run.width}x${run.height}`,
    run.median_ms,
    run.p95_ms,
    run.p99_ms,
    run.event_to_photon_ms,
    run.legs_ms.input,
    run.legs_ms.application,
    run.legs_ms.picture,
    run.fps,
    run.frame_age_ms,
    run.server_cpu,
    run.display_cpu,
    run.browser_cpu,
    run.memory_mb,
    run.mbit_s,
    `${run.load_before}-${run.load_after}`,
    run.probe_late_p99_ms,
    run.lost,
    run.starved ? "STARVED" : "",
  ]);
  const cells = [head, ...rows].map((row) => row.map(String));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells.map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join("  ")).join("\n");
}

/** Like with like: a game that draws at its own beat waits for it everywhere, one that the display asks does not. */
function allRatios(runs: readonly Run[]): Record<string, Ratios> {
  const result: Record<string, Ratios> = {};
  for (const [name, { width }] of Object.entries(FORMATS)) {
    for (const display of DISPLAYS) {
      const alike = runs.filter((run) => run.width === width && run.display === display);
      const ours = alike.find((run) => run.product.startsWith(OURS));
      const found = ours && ratios(ours, alike.filter((run) => run !== ours));
      if (found) result[display === "x11" ? name : `${name}-${display}`] = found;
    }
  }
  return result;
}

/** Starts one product, watches it once, keeps what was seen in `directory`. */
async function observe(product: Product, format: Format, plan: Plan, directory: string): Promise<Observation> {
  mkdirSync(directory, { recursive: true });
  const observed = await measure(product, format, plan, directory);
  const plain = { ...observed, cpuS: [...observed.cpuS], memoryBytes: [...observed.memoryBytes] };
  writeFileSync(join(directory, "observation.json"), JSON.stringify(plain));
  process.stderr.write(`${table([judge([observed])])}\n`);
  return observed;
}

/** Measures all products at one format. Rounds take turns: a machine that is busier for a while is so for all of them. */
async function measureFormat(name: string, format: Format, chosen: Options, results: string): Promise<Run[]> {
  const observations = new Map<Product, Observation[]>(chosen.products.map((product) => [product, []]));
  const presses = Math.ceil(chosen.inputs / chosen.rounds);
  for (let round = 1; round <= chosen.rounds; round++) {
    for (const [product, observed] of observations) {
      process.stderr.write(`${name}, round ${round}: ${product.name}\n`);
      const plan = { presses, seed: chosen.seed + round, warmUpMs: WARM_UP_MS };
      observed.push(await observe(product, format, plan, join(results, `${product.name}-${name}-${round}`)));
    }
  }
  const series = [...observations].map(([product, rounds]) => ({ name: product.name, valuesMs: clickToPhotonMs(rounds) }));
  writeFileSync(join(results, `${name}.svg`), plot(`Click to photon at ${name}`, series));
  return [...observations.values()].map(([first, ...more]) => {
    if (!first) throw new Error("a product without a round");
    return judge([first, ...more]);
  });
}

async function main(): Promise<void> {
  const chosen = options();
  const results = newResults("latency");
  const runs: Run[] = [];
  for (const name of chosen.formats) {
    const format = FORMATS[name];
    if (format) runs.push(...(await measureFormat(name, format, chosen, results)));
  }
  const report = { runs, ratios: allRatios(runs) };
  writeFileSync(join(results, "report.json"), JSON.stringify(report, undefined, 2));
  process.stdout.write(`${table(runs)}\n\nplots, logs and raw observations: ${results}\n${JSON.stringify(report)}\n`);
}

await main();
