//! Controls drawn over the picture for players without keyboard, mouse or gamepad, as the app's manifest lays them out.

import { type Disposer, Disposers } from "../core/events.js";
import type { Input } from "../core/input.js";
import { NEUTRAL_PAD, padState } from "../core/pads.js";
import type { ButtonBinding, StickBinding, TouchControl, TouchPlace } from "../rest/types.js";
import { listen } from "./listen.js";

const button = (label: string, x: number, y: number, pad: number, size = 0.13): TouchControl => ({
  kind: "button",
  label,
  place: { x, y, size },
  send: { pad },
});

/** Drawn when a manifest asks for a pad and lays out none. Numbers are those of the W3C standard mapping. */
export const STANDARD_PAD: readonly TouchControl[] = [
  { kind: "stick", label: "Move", place: { x: 0.14, y: 0.7, size: 0.34 }, send: { pad: "left" } },
  { kind: "stick", label: "Look", place: { x: 0.72, y: 0.76, size: 0.28 }, send: { pad: "right" } },
  button("A", 0.9, 0.62, 0),
  button("B", 0.96, 0.48, 1),
  button("X", 0.84, 0.48, 2),
  button("Y", 0.9, 0.34, 3),
  button("L", 0.08, 0.2, 4),
  button("R", 0.92, 0.16, 5),
  button("Select", 0.43, 0.92, 8, 0.1),
  button("Start", 0.57, 0.92, 9, 0.1),
];

/** From the knob's rest to where it counts as pressed, as a fraction of its way: for sticks that send keys. */
const KEY_THRESHOLD = 0.35;

/** The pad's slot; physical gamepads come after it. */
export const TOUCH_PAD_SLOT = 0;

export interface TouchPad {
  readonly element: HTMLElement;
  /** True when some control is part of a gamepad. */
  readonly usesPad: boolean;
  dispose: Disposer;
}

export function createTouchPad(controls: readonly TouchControl[], input: Input): TouchPad {
  const element = document.createElement("div");
  element.className = "kite-pad";
  const disposers = new Disposers();
  const state = new PadOnScreen(input);
  const usesPad = controls.some((control) => control.kind !== "look" && "pad" in control.send);
  for (const control of controls) {
    switch (control.kind) {
      case "stick":
        disposers.add(addStick(element, control.label, control.place, stickSender(control.send, input, state)));
        break;
      case "button":
        disposers.add(addButton(element, control.label, control.place, buttonSender(control.send, input, state)));
        break;
      case "look":
        disposers.add(addLook(element, control.speed, input));
        break;
    }
  }
  if (usesPad) input.padConnect(TOUCH_PAD_SLOT);
  return {
    element,
    usesPad,
    dispose() {
      disposers.dispose();
      if (usesPad) input.padDisconnect(TOUCH_PAD_SLOT);
      element.remove();
    },
  };
}

/** The state of the gamepad that the controls make up together. */
class PadOnScreen {
  readonly #input: Input;
  readonly #buttons = Array.from({ length: 17 }, () => ({ pressed: false, value: 0 }));
  readonly #axes = [0, 0, 0, 0];

  constructor(input: Input) {
    this.#input = input;
  }

  button(index: number, pressed: boolean, timeMs: number): void {
    this.#buttons[index] = { pressed, value: pressed ? 1 : 0 };
    this.#send(timeMs);
  }

  stick(stick: "left" | "right", x: number, y: number, timeMs: number): void {
    const first = stick === "left" ? 0 : 2;
    this.#axes[first] = x;
    this.#axes[first + 1] = y;
    this.#send(timeMs);
  }

  #send(timeMs: number): void {
    const state = padState({ buttons: this.#buttons, axes: this.#axes });
    this.#input.pad(TOUCH_PAD_SLOT, { ...NEUTRAL_PAD, ...state }, timeMs);
  }
}

type SendButton = (pressed: boolean, timeMs: number) => void;
type SendStick = (x: number, y: number, timeMs: number) => void;

function buttonSender(send: ButtonBinding, input: Input, pad: PadOnScreen): SendButton {
  if ("key" in send) return (pressed, timeMs) => void input.key(send.key, pressed, timeMs);
  if ("mouse" in send) return (pressed, timeMs) => input.pointerButton(send.mouse, pressed, timeMs);
  return (pressed, timeMs) => pad.button(send.pad, pressed, timeMs);
}

function stickSender(send: StickBinding, input: Input, pad: PadOnScreen): SendStick {
  if ("pad" in send) return (x, y, timeMs) => pad.stick(send.pad, x, y, timeMs);
  const { up, left, down, right } = send.keys;
  return (x, y, timeMs) => {
    input.key(left, x < -KEY_THRESHOLD, timeMs);
    input.key(right, x > KEY_THRESHOLD, timeMs);
    input.key(up, y < -KEY_THRESHOLD, timeMs);
    input.key(down, y > KEY_THRESHOLD, timeMs);
  };
}

function place(element: HTMLElement, { x, y, size }: TouchPlace): void {
  element.style.left = `${x * 100}%`;
  element.style.top = `${y * 100}%`;
  // Of the pad's shorter edge, but never too small for a thumb.
  element.style.setProperty("--size", `${size * 100}cqmin`);
}

/** Calls `on` with the finger that went down here, until it is lifted: `null` then. */
function followFinger(element: HTMLElement, on: (event: PointerEvent, isDown: boolean) => void): Disposer {
  let finger: number | null = null;
  const end = (event: PointerEvent): void => {
    if (event.pointerId !== finger) return;
    finger = null;
    on(event, false);
  };
  const disposers = new Disposers();
  disposers.add(
    listen(element, "pointerdown", (event) => {
      if (finger !== null) return;
      finger = event.pointerId;
      event.preventDefault();
      element.setPointerCapture(event.pointerId);
      on(event, true);
    }),
    listen(element, "pointermove", (event) => {
      if (event.pointerId === finger) on(event, true);
    }),
    listen(element, "pointerup", end),
    listen(element, "pointercancel", end),
    listen(element, "contextmenu", (event) => event.preventDefault()),
  );
  return () => disposers.dispose();
}

function addButton(pad: HTMLElement, label: string, where: TouchPlace, send: SendButton): Disposer {
  const element = document.createElement("button");
  element.type = "button";
  element.className = "kite-pad-button";
  element.textContent = label;
  element.tabIndex = -1;
  place(element, where);
  pad.append(element);
  let isDown = false;
  return followFinger(element, (event, down) => {
    if (down === isDown) return;
    isDown = down;
    element.classList.toggle("kite-pressed", down);
    send(down, event.timeStamp);
  });
}

function addStick(pad: HTMLElement, label: string, where: TouchPlace, send: SendStick): Disposer {
  const element = document.createElement("div");
  element.className = "kite-pad-stick";
  element.dataset["kiteControl"] = "";
  element.role = "img";
  element.ariaLabel = label;
  const knob = document.createElement("span");
  knob.className = "kite-pad-knob";
  element.append(knob);
  place(element, where);
  pad.append(element);
  return followFinger(element, (event, isDown) => {
    let x = 0;
    let y = 0;
    if (isDown) {
      const { left, top, width, height } = element.getBoundingClientRect();
      x = ((event.clientX - left) / width) * 2 - 1;
      y = ((event.clientY - top) / height) * 2 - 1;
      const length = Math.hypot(x, y);
      if (length > 1) {
        x /= length;
        y /= length;
      }
    }
    knob.style.translate = `${x * 50}% ${y * 50}%`;
    element.classList.toggle("kite-pressed", isDown);
    send(x, y, event.timeStamp);
  });
}

/** The field behind all other controls: a drag looks around. */
function addLook(pad: HTMLElement, speed: number, input: Input): Disposer {
  const element = document.createElement("div");
  element.className = "kite-pad-look";
  element.dataset["kiteControl"] = "";
  pad.prepend(element);
  let last: { readonly x: number; readonly y: number } | null = null;
  return followFinger(element, (event, isDown) => {
    const { clientX: x, clientY: y } = event;
    if (isDown && last !== null) input.pointerMotion((x - last.x) * speed, (y - last.y) * speed, event.timeStamp);
    last = isDown ? { x, y } : null;
  });
}
