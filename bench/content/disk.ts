/**
 * A file system of its own for one turn of one product. ext4 looks at every inode that was freed in the last minutes before it takes
 * another one: on a file system that is used again, who comes next pays for what was removed before.
 */

import { mkdirSync, rmSync } from "node:fs";

import { run } from "e2e/lib/disk.ts";

/** Bytes an inode: packages have files of some kilobytes, and a store of chunks has more of them. */
const BYTES_PER_INODE = 32 << 10;

/** An empty ext4 in a file beside `directory`, mounted there. It takes of the disk what is written into it. */
export class FreshDisk {
  readonly #image: string;
  readonly #device: string;

  constructor(
    readonly directory: string,
    bytes: number,
  ) {
    this.#image = `${directory}.img`;
    mkdirSync(directory);
    run("truncate", "-s", String(bytes), this.#image);
    // All of it now: else the kernel goes on making inode tables while something is measured.
    const now = "lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-i", String(BYTES_PER_INODE), "-E", now, this.#image);
    // Past the page cache of the disk below: nothing is in memory twice.
    this.#device = run("losetup", "--find", "--show", "--direct-io=on", this.#image);
    run("mount", this.#device, directory);
    run("sync");
  }

  remove(): void {
    run("umount", this.directory);
    run("losetup", "--detach", this.#device);
    rmSync(this.#image);
    rmSync(this.directory, { recursive: true });
    run("sync");
  }
}
