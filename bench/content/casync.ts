/** casync as it is shipped: its own chunk size and compression, a store in a directory, no network between. */

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { Product } from "./product.ts";
import { sizeOf, timedCommand } from "./steps.ts";

export const casync: Product = {
  name: "casync",
  start(directory) {
    const store = join(directory, "store.castr");
    mkdirSync(store);
    const index = (build: number): string => join(directory, `build${build}.caidx`);
    const site = (build: number): string => join(directory, `site${build}`);
    let [pushed, synced] = [0, 0];
    return Promise.resolve({
      async push({ directory: source }) {
        pushed += 1;
        const before = sizeOf(store);
        const around = { source, target: directory };
        const { wall_s, cpu_s } = await timedCommand(around, "casync", ["make", `--store=${store}`, index(pushed), source]);
        const grown = sizeOf(store) - before;
        return { wall_s, cpu_s, sent_bytes: grown, stored_bytes: grown };
      },
      async sync() {
        // The tree of the build before is where it takes from what it can; a tree is never changed in place.
        const seed = synced > 0 ? [`--seed=${site(synced)}`] : [];
        const command = ["extract", `--store=${store}`, ...seed, index(pushed), site(pushed)];
        const { wall_s, cpu_s } = await timedCommand({ source: directory, target: directory }, "casync", command);
        if (synced > 0 && synced !== pushed) rmSync(site(synced), { recursive: true });
        synced = pushed;
        return { wall_s, cpu_s, sent_bytes: null, stored_bytes: null };
      },
      stop: () => Promise.resolve(),
    });
  },
};
