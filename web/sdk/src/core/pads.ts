//! Gamepads: the browser's snapshot as the wire's state.

import type { PadState } from "../protocol/wire.generated.js";

/** The part of the W3C `Gamepad` that is read. */
export interface PadSnapshot {
  readonly buttons: readonly { readonly pressed: boolean; readonly value: number }[];
  readonly axes: readonly number[];
}

export const NEUTRAL_PAD: PadState = { buttons: 0, axes: [0, 0, 0, 0], triggers: [0, 0] };

/** Buttons of the standard mapping that are triggers, left and right. */
const TRIGGERS = [6, 7] as const;
/** Buttons of the standard mapping; a pad's further ones have no meaning that a game could know. */
const BUTTONS = 17;

function axis(value: number | undefined): number {
  return Math.round(Math.max(-1, Math.min(1, value ?? 0)) * 32_767);
}

export function padState(snapshot: PadSnapshot): PadState {
  let buttons = 0;
  for (const [index, button] of snapshot.buttons.slice(0, BUTTONS).entries()) {
    if (button.pressed) buttons |= 1 << index;
  }
  const trigger = (index: number): number =>
    Math.round(Math.max(0, Math.min(1, snapshot.buttons[index]?.value ?? 0)) * 255);
  const [x, y, z, w] = snapshot.axes;
  return {
    buttons,
    axes: [axis(x), axis(y), axis(z), axis(w)],
    triggers: [trigger(TRIGGERS[0]), trigger(TRIGGERS[1])],
  };
}

export function samePad(a: PadState, b: PadState): boolean {
  return (
    a.buttons === b.buttons &&
    a.axes.every((value, index) => value === b.axes[index]) &&
    a.triggers.every((value, index) => value === b.triggers[index])
  );
}
