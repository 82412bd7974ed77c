//! Measuring the way to a site: which small messages are sent when, and what their coming back says. Pure: the time comes from outside.

/** How far it is. */
export interface Way {
  /** There and back, the median. */
  readonly roundTripMs: number;
  /** Of a thousand messages so many were lost, as far as that is sure. */
  readonly lossPermille: number;
}

/** With less the median of a bad way jumps; with more the measurement takes longer than a player waits. One second, at `APART_MS`. */
export const MESSAGES = 40;
/** Closer together they would meet in the same moment of the way; farther apart there would be fewer of them. */
export const APART_MS = 25;
/** Fewer that came back are no measurement. */
const LEAST_BACK = 8;
/** Whatever is not back after twice the median and this is lost; it may still be waiting in this machine before. */
const SLACK_MS = 100;
/**
 * So many lost messages say nothing: one of forty is lost on a way that loses one of a thousand each twenty-fifth time, and would outweigh a
 * tenth of a second of distance.
 */
const CHANCE = 1;

/** The messages of one measurement. */
export class Measurement {
  readonly #sentMs: number[] = [];
  readonly #tookMs = new Map<number, number>();

  /** Notes that one is sent; its number. */
  sends(nowMs: number): number {
    return this.#sentMs.push(nowMs) - 1;
  }

  /** Notes that one is back. What was never sent, or is back already, is left out. */
  back(number: number, nowMs: number): void {
    const sentMs = this.#sentMs[number];
    if (sentMs !== undefined && !this.#tookMs.has(number)) this.#tookMs.set(number, nowMs - sentMs);
  }

  /** True where there are more to be sent. */
  get isSending(): boolean {
    return this.#sentMs.length < MESSAGES;
  }

  /** True when nothing that may come would change it. */
  isDone(nowMs: number): boolean {
    if (this.isSending) return false;
    const lastMs = this.#sentMs.at(-1) ?? nowMs;
    return this.#tookMs.size === this.#sentMs.length || nowMs - lastMs > this.#patienceMs();
  }

  /** What it says; `null` when too few came back. What may still be on its way is not counted. */
  way(nowMs: number): Way | null {
    const median = this.#medianMs();
    if (median === null || this.#tookMs.size < LEAST_BACK) return null;
    const patienceMs = this.#patienceMs();
    const isLost = (sentMs: number, number: number): boolean =>
      !this.#tookMs.has(number) && nowMs - sentMs > patienceMs;
    const lost = this.#sentMs.filter(isLost).length;
    const sure = Math.max(0, lost - CHANCE);
    return { roundTripMs: median, lossPermille: Math.round((1000 * sure) / (this.#tookMs.size + lost)) };
  }

  #medianMs(): number | null {
    const sorted = [...this.#tookMs.values()].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? null;
  }

  #patienceMs(): number {
    return 2 * (this.#medianMs() ?? 0) + SLACK_MS;
  }
}

/** So many of all, each as likely as another: of many sites nobody measures all. `random` gives 0 to 1. */
export function choose<Value>(all: readonly Value[], count: number, random: () => number): readonly Value[] {
  const left = [...all];
  const chosen: Value[] = [];
  while (chosen.length < count && left.length > 0) {
    chosen.push(...left.splice(Math.min(left.length - 1, Math.floor(random() * left.length)), 1));
  }
  return chosen;
}
