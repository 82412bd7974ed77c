/** A package that is large enough to be caught in the middle, and what its developers make of it from build to build. */

import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, openSync, closeSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

import type { Random } from "./random.ts";

/** How large it is, besides a few bytes. */
export interface BuildSize {
  readonly largeFiles: number;
  readonly largeBytes: number;
  readonly smallFiles: number;
  /** Bytes of one file that is another one in every build. */
  readonly newBytes: number;
}

/** Bytes of a small file at most. */
const SMALL_BYTES = 12_000;

/** The directory of an app's package, which has one build after the other. */
export class Builds {
  readonly #random: Random;
  readonly #size: BuildSize;
  #number = 0;

  constructor(readonly app: string, readonly directory: string, size: BuildSize, random: Random) {
    this.#random = random;
    this.#size = size;
    mkdirSync(join(directory, "small"), { recursive: true });
    const manifest = `name = "${app}"\ntitle = "${app}"\n[launch]\ncommand = ["/bin/true"]\n`;
    writeFileSync(join(directory, "kite.toml"), manifest);
    for (let index = 0; index < size.largeFiles; index++) writeFileSync(this.#large(index), random.bytes(size.largeBytes));
    for (let index = 0; index < size.smallFiles; index++) this.#writeSmall(index);
    this.next();
  }

  #large(index: number): string {
    return join(this.directory, `large${index}`);
  }

  #writeSmall(index: number): void {
    writeFileSync(join(this.directory, "small", `${index}`), this.#random.bytes(this.#random.below(SMALL_BYTES)));
  }

  /** The next build: a few bytes of each large file and one small file in fifty are others, one is new, one gone. */
  next(): void {
    this.#number += 1;
    const { largeFiles, largeBytes, smallFiles, newBytes } = this.#size;
    for (let index = 0; index < largeFiles; index++) {
      const file = openSync(this.#large(index), "r+");
      writeSync(file, this.#random.bytes(100), 0, 100, this.#random.below(largeBytes - 100));
      closeSync(file);
    }
    for (let index = 0; index < smallFiles / 50; index++) this.#writeSmall(this.#random.below(smallFiles));
    this.#writeSmall(smallFiles + this.#number);
    rmSync(join(this.directory, "small", `${this.#random.below(smallFiles)}`), { force: true });
    writeFileSync(join(this.directory, "new"), this.#random.bytes(newBytes));
  }

  /** Keeps what this build is, to compare with. */
  keep(directory: string): void {
    cpSync(this.directory, directory, { recursive: true });
  }
}

/** In what two directories differ, as `diff` says it; empty when they are the same. */
export function differences(one: string, other: string): string {
  const run = spawnSync("diff", ["--recursive", "--no-dereference", "--brief", one, other], { encoding: "utf8" });
  return run.status === 0 ? "" : `${run.stdout}${run.stderr}`.slice(0, 2000);
}
