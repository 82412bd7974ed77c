//! Recent samples and their medians.

export interface Summary {
  readonly median: number;
  readonly p95: number;
  readonly count: number;
}

/** The samples of the last `spanMs`, at most `capacity` of them. */
export class Samples {
  readonly #spanMs: number;
  readonly #capacity: number;
  #times: number[] = [];
  #values: number[] = [];

  constructor(spanMs: number, capacity: number) {
    this.#spanMs = spanMs;
    this.#capacity = capacity;
  }

  add(nowMs: number, value: number): void {
    this.#times.push(nowMs);
    this.#values.push(value);
    if (this.#times.length > this.#capacity) {
      this.#times.shift();
      this.#values.shift();
    }
  }

  clear(): void {
    this.#times = [];
    this.#values = [];
  }

  /** `null` without a sample. */
  summary(nowMs: number): Summary | null {
    const first = this.#times.findIndex((time) => time >= nowMs - this.#spanMs);
    if (first < 0) return null;
    const sorted = this.#values.slice(first).sort((a, b) => a - b);
    const at = (fraction: number): number =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0;
    return { median: at(0.5), p95: at(0.95), count: sorted.length };
  }
}
