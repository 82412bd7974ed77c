//! The game's sound. Browsers keep a page silent until it was clicked or typed into: then it begins by itself.

import { type Disposer, Disposers } from "../core/events.js";
import { listen } from "./listen.js";

export class Sound {
  readonly #element = new Audio();
  readonly #disposers = new Disposers();
  readonly #onBlocked: (blocked: boolean) => void;
  #isBlocked = false;

  constructor(root: HTMLElement, onBlocked: (blocked: boolean) => void) {
    this.#onBlocked = onBlocked;
    this.#element.hidden = true;
    root.append(this.#element);
    const retry = (): void => {
      if (this.#isBlocked) this.#play();
    };
    this.#disposers.add(listen(root, "pointerup", retry), listen(root, "keydown", retry));
  }

  attach(track: MediaStreamTrack): void {
    this.#element.srcObject = new MediaStream([track]);
    this.#play();
  }

  #play(): void {
    this.#element.play().then(
      () => this.#blocked(false),
      (error: unknown) => {
        if (error instanceof DOMException && error.name === "NotAllowedError") this.#blocked(true);
      },
    );
  }

  #blocked(blocked: boolean): void {
    if (blocked === this.#isBlocked) return;
    this.#isBlocked = blocked;
    this.#onBlocked(blocked);
  }

  get muted(): boolean {
    return this.#element.muted;
  }

  set muted(muted: boolean) {
    this.#element.muted = muted;
  }

  /** 0 to 1. */
  set volume(volume: number) {
    this.#element.volume = Math.max(0, Math.min(1, volume));
  }

  readonly dispose: Disposer = () => {
    this.#disposers.dispose();
    this.#element.pause();
    this.#element.srcObject = null;
    this.#element.remove();
  };
}
