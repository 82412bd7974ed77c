//! What the player does, as messages: stamps, running totals, what is held down, which channel.
//!
//! Nothing is queued: a message leaves when its event arrives. Deliberately absent: the DOM and clocks.

import type {
  Button,
  ClientMessage,
  MotionTotal,
  PadState,
  PointerPosition,
  Stamp,
  TouchPhase,
} from "../protocol/wire.generated.js";
import { toWireUs } from "./clock.js";
import { evdevCode } from "./keymap.js";
import { NEUTRAL_PAD, samePad } from "./pads.js";

export type Channel = "control" | "motion";

export interface InputSink {
  /** Sends at once; drops what cannot be sent. */
  send(channel: Channel, message: ClientMessage): void;
  /** An input got this number: the ledger wants to know. */
  stamped(sequence: number, timeMs: number): void;
}

/** One detent of a wheel. Browsers tell pixels, lines or pages; this is how many make one. */
const WHEEL_NOTCH = { pixels: 100, lines: 3, pages: 1 } as const;
const MOTION_UNITS = 16;

export class Input {
  readonly #sink: InputSink;
  readonly #mapKey: (code: string) => string;
  #sequence = 0;
  #totalX = 0;
  #totalY = 0;
  #position: PointerPosition | null = null;
  #locked = false;
  readonly #keys = new Map<string, number>();
  readonly #buttons = new Set<Button>();
  readonly #touches = new Map<number, PointerPosition>();
  readonly #pads = new Map<number, PadState>();
  #wheelRestX = 0;
  #wheelRestY = 0;
  /** The newest of each kind on the motion channel, until it was said again. */
  readonly #unconfirmed = new Map<string, ClientMessage>();

  /** `keys`: what the player presses -> what the game gets, both as `KeyboardEvent.code`. */
  constructor(sink: InputSink, keys: Readonly<Record<string, string>> = {}) {
    this.#sink = sink;
    this.#mapKey = (code) => (Object.hasOwn(keys, code) ? (keys[code] ?? code) : code);
  }

  /** A new connection begins with nothing held and totals of zero; pads that are plugged in are announced again. */
  reset(): void {
    this.#keys.clear();
    this.#buttons.clear();
    this.#touches.clear();
    this.#totalX = 0;
    this.#totalY = 0;
    this.#wheelRestX = 0;
    this.#wheelRestY = 0;
    this.#unconfirmed.clear();
    for (const pad of this.#pads.keys()) {
      this.#pads.set(pad, NEUTRAL_PAD);
      this.#sink.send("control", { type: "padConnect", pad });
    }
  }

  get #total(): MotionTotal {
    return { x: this.#totalX | 0, y: this.#totalY | 0 };
  }

  #stamp(timeMs: number): Stamp {
    // 0 means "none yet" in a FrameMark.
    this.#sequence = (this.#sequence + 1) >>> 0 || 1;
    this.#sink.stamped(this.#sequence, timeMs);
    return { sequence: this.#sequence, clientTimeUs: toWireUs(timeMs) };
  }

  /** False for a key that no game knows, which is then the browser's. The system's repeats are swallowed. */
  key(code: string, pressed: boolean, timeMs: number): boolean {
    const evdev = evdevCode(this.#mapKey(code));
    if (evdev === null) return false;
    // What went down under one mapping goes up under the same.
    const held = this.#keys.get(code);
    if (pressed === (held !== undefined)) return true;
    if (pressed) this.#keys.set(code, evdev);
    else this.#keys.delete(code);
    this.#sink.send("control", { type: "key", stamp: this.#stamp(timeMs), code: held ?? evdev, pressed });
    return true;
  }

  /** While locked, clicks carry no position. */
  set locked(locked: boolean) {
    this.#locked = locked;
  }

  /** `x` and `y` are fractions of the picture. */
  pointerMove(x: number, y: number, timeMs: number): void {
    const position = wirePosition(x, y);
    if (this.#position?.x === position.x && this.#position.y === position.y) return;
    this.#position = position;
    this.#motion("pointer", { type: "pointerMove", stamp: this.#stamp(timeMs), position });
  }

  /** In pixels of the stream's picture. */
  pointerMotion(x: number, y: number, timeMs: number): void {
    if (x === 0 && y === 0) return;
    this.#totalX += x * MOTION_UNITS;
    this.#totalY += y * MOTION_UNITS;
    this.#motion("pointer", { type: "pointerMotion", stamp: this.#stamp(timeMs), total: this.#total });
  }

  #motion(what: string, message: ClientMessage): void {
    this.#unconfirmed.set(what, message);
    this.#sink.send("motion", message);
  }

  /**
   * Says the newest states again, once: to be called when nothing moved for a moment. Their datagrams may have been lost,
   * and no newer ones follow.
   */
  repeatMotion(): void {
    for (const message of this.#unconfirmed.values()) this.#sink.send("motion", message);
    this.#unconfirmed.clear();
  }

  pointerButton(button: Button, pressed: boolean, timeMs: number): void {
    if (pressed === this.#buttons.has(button)) return;
    if (pressed) this.#buttons.add(button);
    else this.#buttons.delete(button);
    this.#unconfirmed.delete("pointer");
    this.#sink.send("control", {
      type: "pointerButton",
      stamp: this.#stamp(timeMs),
      button,
      pressed,
      position: this.#locked ? null : this.#position,
      total: this.#total,
    });
  }

  /** As `WheelEvent` tells it: positive is right and down; mode 0 pixels, 1 lines, 2 pages. */
  wheel(deltaX: number, deltaY: number, deltaMode: number, timeMs: number): void {
    const notch = deltaMode === 0 ? WHEEL_NOTCH.pixels : deltaMode === 1 ? WHEEL_NOTCH.lines : WHEEL_NOTCH.pages;
    this.#wheelRestX += (deltaX / notch) * 120;
    this.#wheelRestY += (deltaY / notch) * 120;
    const x = whole(this.#wheelRestX);
    const y = whole(this.#wheelRestY);
    if (x === 0 && y === 0) return;
    // The rest of a touchpad's small steps counts in the next event.
    this.#wheelRestX -= x;
    this.#wheelRestY -= y;
    this.#sink.send("control", { type: "wheel", stamp: this.#stamp(timeMs), x, y });
  }

  /** `id` 0 to 15; `x` and `y` are fractions of the picture. */
  touch(id: number, phase: TouchPhase, x: number, y: number, timeMs: number): void {
    if (id < 0 || id > 15) return;
    const position = wirePosition(x, y);
    const down = this.#touches.get(id);
    if ((phase === "start") === (down !== undefined)) return;
    if (phase === "move" && down?.x === position.x && down.y === position.y) return;
    if (phase === "start" || phase === "move") this.#touches.set(id, position);
    else this.#touches.delete(id);
    const message: ClientMessage = { type: "touch", stamp: this.#stamp(timeMs), id, phase, position };
    if (phase === "move") return this.#motion(`touch ${id}`, message);
    this.#unconfirmed.delete(`touch ${id}`);
    this.#sink.send("control", message);
  }

  padConnect(pad: number): void {
    if (pad < 0 || pad > 3 || this.#pads.has(pad)) return;
    this.#pads.set(pad, NEUTRAL_PAD);
    this.#sink.send("control", { type: "padConnect", pad });
  }

  padDisconnect(pad: number): void {
    this.#unconfirmed.delete(`pad ${pad}`);
    if (this.#pads.delete(pad)) this.#sink.send("control", { type: "padDisconnect", pad });
  }

  /** A changed button is worth the reliable channel; a stick's next state supersedes a lost one. */
  pad(pad: number, state: PadState, timeMs: number): void {
    const last = this.#pads.get(pad);
    if (last === undefined || samePad(last, state)) return;
    this.#pads.set(pad, state);
    const message: ClientMessage = { type: "pad", stamp: this.#stamp(timeMs), pad, state };
    if (last.buttons === state.buttons) return this.#motion(`pad ${pad}`, message);
    this.#unconfirmed.delete(`pad ${pad}`);
    this.#sink.send("control", message);
  }

  text(text: string, timeMs: number): void {
    if (text !== "") this.#sink.send("control", { type: "text", stamp: this.#stamp(timeMs), text });
  }

  clipboard(text: string): void {
    this.#sink.send("control", { type: "clipboard", text });
  }

  /** The page lost the focus: it will not hear of keys going up. */
  releaseAll(): void {
    const held = this.#keys.size + this.#buttons.size + this.#touches.size > 0;
    for (const touch of this.#touches.keys()) this.#unconfirmed.delete(`touch ${touch}`);
    this.#keys.clear();
    this.#buttons.clear();
    this.#touches.clear();
    if (held) this.#sink.send("control", { type: "releaseAll" });
  }
}

/** The whole part as far as the wire carries it; ten times 0.6 counts as 6. */
function whole(value: number): number {
  return clamp(Math.trunc(value + Math.sign(value) * 1e-6), -32_768, 32_767);
}

function clamp(value: number, min: number, max: number): number {
  return Math.max(min, Math.min(max, value));
}

function wirePosition(x: number, y: number): PointerPosition {
  return { x: Math.round(clamp(x, 0, 1) * 65_535), y: Math.round(clamp(y, 0, 1) * 65_535) };
}
