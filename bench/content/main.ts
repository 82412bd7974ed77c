/**
 * `./x bench content [--size 4G] [--rounds N] [--product NAME] [--real PACKAGE|none] [--dir DIR]`
 *
 * Brings a package into a store and from there to a site, by Kite, rsync and casync in turn, and the same again with a second build
 * that differs by one byte of a hundred. The last line of standard output is one JSON object.
 */

import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { ROOT, binary } from "e2e/lib/kite.ts";

import { rounded } from "../lib/percentiles.ts";
import { newResults } from "../lib/results.ts";
import { casync } from "./casync.ts";
import { FreshDisk } from "./disk.ts";
import { bytesOf, dedupRatio, lastLine, ratios, table } from "./figures.ts";
import type { Run } from "./figures.ts";
import { kite } from "./kite.ts";
import { GENERATED, debian, generate } from "./packages.ts";
import type { Build, Product, Step } from "./product.ts";
import { rsync } from "./rsync.ts";
import { output } from "./steps.ts";

/** Room that is wanted, in sizes of a build: both builds, and a product's disk. */
const ROOM = 7;

interface Options {
  readonly size: number;
  readonly rounds: number;
  readonly seed: number;
  readonly products: readonly string[];
  readonly real: string | undefined;
  readonly layers: number;
  readonly directory: string;
}

function options(): Options {
  const { values } = parseArgs({
    options: {
      size: { type: "string", default: "4G" },
      rounds: { type: "string", default: "3" },
      seed: { type: "string", default: "1" },
      product: { type: "string", multiple: true, default: ["kite", "rsync", "casync"] },
      real: { type: "string", default: "0ad-data" },
      layers: { type: "string", default: "200" },
      dir: { type: "string", default: join(ROOT, "bench-results") },
    },
  });
  const [size, rounds] = [bytesOf(values.size), Number(values.rounds)];
  if (!(rounds >= 1)) throw new Error("at least one round");
  const unknown = values.product.find((name) => !["kite", "rsync", "casync"].includes(name));
  if (unknown !== undefined) throw new Error(`no product is called ${unknown}: kite, rsync, casync`);
  mkdirSync(values.dir, { recursive: true });
  const { bavail, bsize } = statfsSync(values.dir);
  if (bavail * bsize < ROOM * size) {
    throw new Error(`${values.dir} has room for ${(bavail * bsize / 1e9).toFixed(1)} GB, but ${(ROOM * size / 1e9).toFixed(1)} GB are needed: --dir, or a smaller --size`);
  }
  return {
    size,
    rounds,
    seed: Number(values.seed),
    products: values.product,
    real: values.real === "none" ? undefined : values.real,
    layers: Number(values.layers),
    directory: resolve(values.dir),
  };
}

/** Sizes of a build that a product takes on its disk: a store of both builds, two trees of a site, a copy, what is left for the file system. */
const DISK = 5;

/** Smallest disk of a product in bytes: a journal and inode tables take their part. */
const SMALLEST = 1e9;

/** Names of the steps with one build after the other. */
const STEPS = [["push", "sync"], ["repush", "resync"]] as const;

/** One product with an empty store and an empty site: each build is pushed and brought to the site. */
async function turn(product: Product, builds: readonly Build[], directory: string, note: (step: string, did: Step) => void): Promise<void> {
  const disk = new FreshDisk(directory, Math.max(SMALLEST, DISK * Math.max(...builds.map((build) => build.bytes))));
  const running = await product.start(directory);
  try {
    for (const [index, build] of builds.entries()) {
      const [push, sync] = STEPS[index === 0 ? 0 : 1];
      note(push, await running.push(build));
      note(sync, await running.sync());
    }
    const first = builds[0];
    if (running.copy && first) note("copy", await running.copy(first));
  } finally {
    await running.stop();
    disk.remove();
  }
}

/** How long instances wait for their private copy of a package, in milliseconds. */
async function layerReady(build: Build, place: string, count: number): Promise<Record<string, number>> {
  const printed = await output(binary("examples/layer_ready"), [build.directory, place, String(count)]);
  return lastLine(printed);
}

async function main(): Promise<void> {
  const wanted = options();
  const results = newResults("content");
  const place = mkdtempSync(join(wanted.directory, "content-data-"));
  process.once("exit", () => rmSync(place, { recursive: true, force: true }));
  const runs: Run[] = [];
  const rounds = async (builds: readonly Build[], app: string, count: number, prefix: string): Promise<void> => {
    const products = [kite(app), rsync, casync].filter(({ name }) => wanted.products.includes(name));
    for (let round = 1; round <= count; round += 1) {
      for (const product of products) {
        await turn(product, builds, join(place, product.name), (step, did) => {
          const run = { round, product: product.name, step: `${prefix}${step}`, ...did, load: rounded(loadavg()[0] ?? 0, 2) };
          runs.push(run);
          process.stderr.write(`${JSON.stringify(run)}\n`);
          writeFileSync(join(results, "runs.json"), JSON.stringify(runs, undefined, 1));
        });
      }
    }
  };

  const loadBefore = loadavg()[0] ?? 0;
  process.stderr.write("making the builds\n");
  const old = await generate(join(place, "build1"), wanted.size, wanted.seed, 1);
  const layers = await layerReady(old, place, wanted.layers);
  process.stderr.write(`layer ready: ${JSON.stringify(layers)}\n`);
  const changed = await generate(join(place, "build2"), wanted.size, wanted.seed, 2);
  process.stderr.write(`${JSON.stringify(changed.made)}\n`);
  await rounds([old, changed], GENERATED, wanted.rounds, "");
  for (const { directory } of [old, changed]) rmSync(directory, { recursive: true });
  if (wanted.real !== undefined) {
    const real = await debian(wanted.real, join(place, "real"));
    await rounds([real, real], wanted.real, 1, "real_");
  }

  process.stdout.write(table(runs));
  const stored = (product: string): number | null => dedupRatio(runs, product, [old.bytes, changed.bytes]);
  const result = {
    ratios: ratios(runs, changed.made.difference_bytes),
    layer_ready_ms: { median: layers["median"], p99: layers["p99"] },
    dedup_ratio: stored("kite"),
    peer_dedup_ratios: { rsync: stored("rsync"), casync: stored("casync") },
    size: wanted.size,
    difference_bytes: changed.made.difference_bytes,
    real: wanted.real ?? null,
    processors: availableParallelism(),
    load: { before: rounded(loadBefore, 2), after: rounded(loadavg()[0] ?? 0, 2) },
    runs,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}

await main();
