/** Numbers and bytes that look random and are the same for the same seed. */

import { createCipheriv } from "node:crypto";

/** The seed of a test's choices: that of `KITE_TEST_SEED`, or a new one, which is printed so that a run can be repeated. */
export function testSeed(): number {
  const seed = Number(process.env["KITE_TEST_SEED"] ?? Date.now() % 2 ** 31);
  console.log(`KITE_TEST_SEED=${seed}`);
  return seed;
}

/** A sequence of numbers (Mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  #next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let z = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return (z ^ (z >>> 14)) >>> 0;
  }

  /** A whole number from 0 on, below `end`. */
  below(end: number): number {
    return this.#next() % Math.max(1, Math.floor(end));
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error("nothing to pick from");
    return item;
  }

  /** Bytes that nothing compresses. */
  bytes(length: number): Buffer {
    const key = Buffer.alloc(16);
    key.writeUInt32LE(this.#next());
    return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(length));
  }
}
