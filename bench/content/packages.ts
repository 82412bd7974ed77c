/** What is pushed: two builds that are made, and a package of Debian that was made by others. */

import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { binary } from "e2e/lib/kite.ts";

import { lastLine } from "./figures.ts";
import type { Build } from "./product.ts";
import { output, sizeOf } from "./steps.ts";

/** Name of the generated package in its manifest. */
export const GENERATED = "bench-package";

/** What the generator prints. */
interface Made {
  readonly files: number;
  readonly bytes: number;
  readonly difference_bytes: number;
  readonly changed_files: number;
  readonly new_files: number;
  readonly removed_files: number;
}

/** One generated build. */
export interface GeneratedBuild extends Build {
  readonly made: Made;
}

/** Makes one of the two builds of a size in bytes. */
export async function generate(directory: string, size: number, seed: number, build: 1 | 2): Promise<GeneratedBuild> {
  const args = [directory, "--size", String(size), "--seed", String(seed), "--build", String(build)];
  const made = lastLine<Made>(await output(binary("examples/generate"), args));
  return { directory, bytes: made.bytes, made };
}

/** Downloads a package of Debian once, and unpacks it with a manifest. */
export async function debian(name: string, directory: string): Promise<Build> {
  const cache = join(process.env["KITE_CACHE"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "kite"), "packages");
  mkdirSync(cache, { recursive: true });
  const kept = (): string | undefined => readdirSync(cache).find((file) => file.startsWith(`${name}_`) && file.endsWith(".deb"));
  if (kept() === undefined) {
    const partial = join(cache, `${name}.partial`);
    mkdirSync(partial, { recursive: true });
    process.stderr.write(`downloading ${name}\n`);
    await output("apt-get", ["download", "-q", name], partial);
    for (const file of readdirSync(partial)) renameSync(join(partial, file), join(cache, file));
    rmSync(partial, { recursive: true });
  }
  const archive = kept();
  if (archive === undefined) throw new Error(`apt-get brought no package ${name}`);
  mkdirSync(directory);
  await output("dpkg-deb", ["--extract", join(cache, archive), directory]);
  const manifest = `name = "${name}"\ntitle = "${name} of Debian"\n\n[launch]\ncommand = ["/bin/true"]\n`;
  writeFileSync(join(directory, "kite.toml"), manifest);
  const files = await output("find", [directory, "-type", "f", "-printf", "%s\n"]);
  const bytes = files.split("\n").reduce((sum, length) => sum + Number(length), 0);
  process.stderr.write(`${name}: ${(sizeOf(directory) / 1e6).toFixed(0)} MB\n`);
  return { directory, bytes };
}
