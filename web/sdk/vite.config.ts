import { defineConfig } from "vitest/config";

export default defineConfig({
  build: {
    target: "es2022",
    lib: { entry: "src/index.ts", formats: ["es"], fileName: () => "kite.js" },
    minify: true,
    sourcemap: true,
    emptyOutDir: true,
  },
  test: {
    include: ["tests/**/*.test.ts"],
    // One browser at a time: the tests of the DOM measure time.
    fileParallelism: false,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
