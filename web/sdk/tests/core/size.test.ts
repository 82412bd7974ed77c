import { gzipSync } from "node:zlib";
import { build } from "vite";
import { expect, test } from "vitest";

/** What a page pays for the SDK. More is felt on a phone's first load; the figure today is about 19 kB. */
const BUDGET_BYTES = 40_000;

test("the SDK stays small, and brings nothing along", async () => {
  const built = await build({
    root: new URL("../..", import.meta.url).pathname,
    configFile: false,
    logLevel: "error",
    build: {
      write: false,
      target: "es2022",
      rollupOptions: {
        input: new URL("../../src/index.ts", import.meta.url).pathname,
        preserveEntrySignatures: "strict",
      },
    },
  });
  if (!("output" in built)) throw new Error("nothing was built");
  const [chunk, ...others] = built.output;
  expect(others).toEqual([]);
  expect(chunk.exports).toContain("createPlayer");
  expect(chunk.imports).toEqual([]);
  expect(chunk.moduleIds.filter((id) => id.includes("node_modules"))).toEqual([]);
  const size = gzipSync(chunk.code, { level: 9 }).length;
  expect(size).toBeGreaterThan(10_000);
  expect(size).toBeLessThan(BUDGET_BYTES);
});
