//! One typed event map, and a disposer from every `on`.

export type Disposer = () => void;

export interface ListenOptions {
  /** Stops listening when aborted. */
  readonly signal?: AbortSignal;
}

export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` at each event until the disposer is called. The same function may be added once. */
  on<Name extends keyof Events>(
    name: Name,
    listener: (event: Events[Name]) => void,
    options: ListenOptions = {},
  ): Disposer {
    if (options.signal?.aborted) return () => {};
    let listeners = this.#listeners.get(name);
    if (listeners === undefined) {
      listeners = new Set();
      this.#listeners.set(name, listeners);
    }
    const set = listeners;
    set.add(listener);
    const dispose = (): void => {
      set.delete(listener);
      options.signal?.removeEventListener("abort", dispose);
    };
    options.signal?.addEventListener("abort", dispose, { once: true });
    return dispose;
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      (listener as (event: Events[Name]) => void)(event);
    }
  }
}

/** Collects disposers, to be called once, the newest first. */
export class Disposers {
  #disposers: Disposer[] = [];

  add(...disposers: Disposer[]): void {
    this.#disposers.push(...disposers);
  }

  dispose(): void {
    const disposers = this.#disposers.reverse();
    this.#disposers = [];
    for (const disposer of disposers) disposer();
  }
}
