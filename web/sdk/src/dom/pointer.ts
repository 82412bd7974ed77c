//! Mouse and fingers: positions, locked motion, buttons, wheel.

import { type Disposer, Disposers } from "../core/events.js";
import { fractions, type Rectangle } from "../core/geometry.js";
import type { Input } from "../core/input.js";
import type { Button, PointerMode } from "../protocol/wire.generated.js";
import type { InputProfile } from "../rest/types.js";
import { listen } from "./listen.js";
import { lockPointer, POINTER_MOVE } from "./platform.js";

const BUTTONS: readonly Button[] = ["left", "middle", "right", "back", "forward"];

export interface PointerOptions {
  readonly root: HTMLElement;
  readonly input: Input;
  readonly mouse: InputProfile["mouse"];
  readonly touch: InputProfile["touch"]["mode"];
  /** Where the picture is now, in the page. */
  readonly place: () => Rectangle;
  /** The pointer is held by the page, or not any more. */
  readonly onLock: (locked: boolean) => void;
}

export interface PointerCapture {
  /** What the game wants. */
  mode: PointerMode;
  dispose: Disposer;
}

export function capturePointer(options: PointerOptions): PointerCapture {
  const mouse = new Mouse(options);
  const disposers = new Disposers();
  disposers.add(captureFingers(options), () => mouse.dispose());
  return {
    get mode() {
      return mouse.mode;
    },
    set mode(mode) {
      mouse.mode = mode;
    },
    dispose: () => disposers.dispose(),
  };
}

class Mouse {
  readonly #options: PointerOptions;
  readonly #disposers = new Disposers();
  #mode: PointerMode = "absolute";
  #isLocked = false;
  /** The lock was refused: motion is then taken from the free pointer. */
  #lockFailed = false;
  /** The button whose press asked for the lock: neither it nor its release is the game's. */
  #swallowed: number | null = null;

  constructor(options: PointerOptions) {
    this.#options = options;
    if (options.mouse === "none") return;
    if (options.mouse === "relative") this.#mode = "locked";
    const { root } = options;
    this.#disposers.add(
      listen(root, POINTER_MOVE, (event) => {
        if (event.pointerType === "mouse") this.#moved(event);
      }),
      listen(root, "mousedown", (event) => this.#pressed(event)),
      // A drag goes on outside of the picture.
      listen(root, "pointerdown", (event) => {
        if (event.pointerType === "mouse" && !isControl(event.target)) root.setPointerCapture(event.pointerId);
      }),
      // On the window: a button may be let go outside of the picture.
      listen(window, "mouseup", (event) => this.#released(event)),
      listen(root, "contextmenu", (event) => event.preventDefault()),
      listen(root, "auxclick", (event) => event.preventDefault()),
      listen(root, "dragstart", (event) => event.preventDefault()),
      listen(root, "wheel", (event) => this.#wheel(event), { passive: false }),
      listen(document, "pointerlockchange", () => this.#lockChanged()),
    );
  }

  get mode(): PointerMode {
    return this.#mode;
  }

  set mode(mode: PointerMode) {
    if (this.#options.mouse !== "auto") return;
    this.#mode = mode;
    if (mode === "absolute" && this.#isLocked) document.exitPointerLock();
  }

  #moved(event: PointerEvent): void {
    const { input, place } = this.#options;
    if (this.#isLocked || (this.#mode === "locked" && this.#lockFailed)) {
      input.pointerMotion(event.movementX, event.movementY, event.timeStamp);
    } else if (this.#mode === "absolute") {
      const { x, y } = fractions(place(), event.clientX, event.clientY);
      input.pointerMove(x, y, event.timeStamp);
    }
  }

  #pressed(event: MouseEvent): void {
    const { root, input, place } = this.#options;
    if (isControl(event.target)) return;
    event.preventDefault();
    root.focus({ preventScroll: true });
    if (this.#mode === "locked" && !this.#isLocked && !this.#lockFailed) {
      this.#swallowed = event.button;
      this.#lock();
      return;
    }
    const button = BUTTONS[event.button];
    if (button === undefined) return;
    if (this.#mode === "absolute") {
      const { x, y } = fractions(place(), event.clientX, event.clientY);
      input.pointerMove(x, y, event.timeStamp);
    }
    input.pointerButton(button, true, event.timeStamp);
  }

  #released(event: MouseEvent): void {
    const button = BUTTONS[event.button];
    if (event.button === this.#swallowed) {
      this.#swallowed = null;
      return;
    }
    if (button === undefined) return;
    if (this.#options.root.contains(event.target as Node | null)) event.preventDefault();
    this.#options.input.pointerButton(button, false, event.timeStamp);
  }

  #wheel(event: WheelEvent): void {
    if (isControl(event.target)) return;
    event.preventDefault();
    this.#options.input.wheel(event.deltaX, event.deltaY, event.deltaMode, event.timeStamp);
  }

  #lock(): void {
    lockPointer(this.#options.root).then(
      (isPossible) => {
        if (!isPossible) this.#lockFailed = true;
      },
      (error: unknown) => {
        // Shortly after Escape browsers refuse; the next click may do. Other refusals are for good (a sandboxed frame).
        this.#lockFailed = error instanceof DOMException && error.name === "NotSupportedError";
      },
    );
  }

  #lockChanged(): void {
    const isLocked = document.pointerLockElement === this.#options.root;
    if (isLocked === this.#isLocked) return;
    this.#isLocked = isLocked;
    this.#options.input.locked = isLocked;
    if (!isLocked) this.#options.input.releaseAll();
    // The game may have let go of the pointer while the lock was on its way.
    if (isLocked && this.#mode === "absolute") document.exitPointerLock();
    this.#options.onLock(isLocked);
  }

  dispose(): void {
    this.#disposers.dispose();
    if (this.#isLocked) document.exitPointerLock();
  }
}

/** Buttons and fields that lie over the picture keep their events. */
export function isControl(target: EventTarget | null): boolean {
  return (
    target instanceof Element && target.closest("button, input, textarea, select, a, [data-kite-control]") !== null
  );
}

/** Fingers on the picture: as touches, or as a mouse. (The pad's controls take theirs before.) */
function captureFingers({ root, input, touch, place }: PointerOptions): Disposer {
  const slots = new Map<number, number>();
  const at = (event: PointerEvent): { x: number; y: number } => fractions(place(), event.clientX, event.clientY);
  const disposers = new Disposers();

  const down = (event: PointerEvent): void => {
    let slot = 0;
    while ([...slots.values()].includes(slot)) slot += 1;
    slots.set(event.pointerId, slot);
    const { x, y } = at(event);
    if (touch === "direct") return input.touch(slot, "start", x, y, event.timeStamp);
    if (slot === 0) {
      input.pointerMove(x, y, event.timeStamp);
      input.pointerButton("left", true, event.timeStamp);
    } else if (slot === 1) {
      // A second finger makes a right click of it.
      input.pointerButton("left", false, event.timeStamp);
      input.pointerButton("right", true, event.timeStamp);
    }
  };
  const move = (event: PointerEvent, slot: number): void => {
    const { x, y } = at(event);
    if (touch === "direct") input.touch(slot, "move", x, y, event.timeStamp);
    else if (slot === 0) input.pointerMove(x, y, event.timeStamp);
  };
  const up = (event: PointerEvent, slot: number, phase: "end" | "cancel"): void => {
    slots.delete(event.pointerId);
    const { x, y } = at(event);
    if (touch === "direct") input.touch(slot, phase, x, y, event.timeStamp);
    else if (slot <= 1) input.pointerButton(slot === 0 ? "left" : "right", false, event.timeStamp);
  };
  const finger =
    (handler: (event: PointerEvent, slot: number) => void) =>
    (event: PointerEvent): void => {
      const slot = slots.get(event.pointerId);
      if (slot !== undefined) handler(event, slot);
    };

  disposers.add(
    listen(root, "pointerdown", (event) => {
      if (event.pointerType === "mouse" || isControl(event.target)) return;
      // Without this the browser makes mouse events of it as well.
      event.preventDefault();
      root.focus({ preventScroll: true });
      if (touch !== "pad") down(event);
    }),
    listen(root, POINTER_MOVE, finger(move)),
    listen(
      window,
      "pointerup",
      finger((event, slot) => up(event, slot, "end")),
    ),
    listen(
      window,
      "pointercancel",
      finger((event, slot) => up(event, slot, "cancel")),
    ),
  );
  return () => disposers.dispose();
}
