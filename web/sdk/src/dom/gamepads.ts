//! Gamepads: polled, because browsers tell changes no other way; rumble where the browser can.

import { type Disposer, Disposers } from "../core/events.js";
import type { Input } from "../core/input.js";
import { padState } from "../core/pads.js";
import { listen } from "./listen.js";

/**
 * Between two looks at the pads. Pads report every 4 to 8 ms; looking more often costs the page's thread, less often is
 * felt. Nothing is polled without a pad.
 */
const POLL_MS = 4;
/** Browsers limit one effect to five seconds; "until the next message" is repeated before that. */
const EFFECT_MS = 4_000;

export interface GamepadCapture {
  rumble(slot: number, strong: number, weak: number, durationMs: number): void;
  dispose: Disposer;
}

/** `firstSlot`: slots before it belong to the pad on the screen. At most `count` pads in all. */
export function captureGamepads(input: Input, firstSlot: () => number, count: number): GamepadCapture {
  /** The browser's index -> our slot. */
  const slots = new Map<number, number>();
  const effects = new Map<number, ReturnType<typeof setTimeout>>();
  const disposers = new Disposers();
  let timer: ReturnType<typeof setInterval> | undefined;
  let frame = 0;

  const poll = (): void => {
    const now = performance.now();
    for (const pad of navigator.getGamepads()) {
      const slot = pad === null ? undefined : slots.get(pad.index);
      if (pad !== null && slot !== undefined) input.pad(slot, padState(pad), now);
    }
  };
  const pollEachFrame = (): void => {
    poll();
    frame = requestAnimationFrame(pollEachFrame);
  };
  const start = (): void => {
    if (timer !== undefined) return;
    timer = setInterval(poll, POLL_MS);
    frame = requestAnimationFrame(pollEachFrame);
  };
  const stop = (): void => {
    clearInterval(timer);
    timer = undefined;
    cancelAnimationFrame(frame);
  };

  const connect = (pad: Gamepad): void => {
    if (slots.has(pad.index)) return;
    const used = new Set(slots.values());
    let slot = firstSlot();
    while (used.has(slot)) slot += 1;
    if (slot >= count) return;
    slots.set(pad.index, slot);
    input.padConnect(slot);
    start();
  };
  disposers.add(
    listen(window, "gamepadconnected", (event) => connect(event.gamepad)),
    listen(window, "gamepaddisconnected", (event) => {
      const slot = slots.get(event.gamepad.index);
      slots.delete(event.gamepad.index);
      if (slot !== undefined) input.padDisconnect(slot);
      if (slots.size === 0) stop();
    }),
    stop,
    () => {
      for (const effect of effects.values()) clearTimeout(effect);
    },
  );
  for (const pad of navigator.getGamepads?.() ?? []) if (pad !== null) connect(pad);

  const actuator = (slot: number): GamepadHapticActuator | null => {
    const index = [...slots].find(([, each]) => each === slot)?.[0];
    return index === undefined ? null : (navigator.getGamepads()[index]?.vibrationActuator ?? null);
  };
  return {
    rumble(slot, strong, weak, durationMs) {
      clearTimeout(effects.get(slot));
      effects.delete(slot);
      const motor = actuator(slot);
      if (motor === null) return;
      if (strong === 0 && weak === 0) {
        motor.reset?.().catch(() => {});
        return;
      }
      const play = (): void => {
        const duration = durationMs === 0 ? EFFECT_MS : Math.min(durationMs, EFFECT_MS);
        const magnitudes = { strongMagnitude: strong / 65_535, weakMagnitude: weak / 65_535 };
        motor.playEffect("dual-rumble", { duration, ...magnitudes }).catch(() => {});
        if (durationMs === 0) effects.set(slot, setTimeout(play, EFFECT_MS - 100));
      };
      play();
    },
    dispose: () => disposers.dispose(),
  };
}
