/** A disk of its own that gets full and gets larger: memory that is mounted. Needs root, as everything that mounts. */

import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, statfsSync } from "node:fs";

/** Runs a command to its end; what it printed. */
export function run(command: string, ...arguments_: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, arguments_, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${arguments_.join(" ")}: ${error?.message ?? stderr}`);
  return stdout.trim();
}

/** A mounted disk. Whoever makes it removes it. */
export class Disk {
  constructor(readonly directory: string, freeMegabytes: number) {
    mkdirSync(directory);
    run("mount", "-t", "tmpfs", "-o", `size=${freeMegabytes}m`, "tmpfs", directory);
    chmodSync(directory, 0o755);
  }

  /** From now on so much can be written besides what is there. */
  leave(megabytes: number): void {
    const { blocks, bfree, bsize } = statfsSync(this.directory);
    run("mount", "-o", `remount,size=${(blocks - bfree) * bsize + megabytes * 2 ** 20}`, this.directory);
  }

  remove(): void {
    run("umount", this.directory);
  }
}
