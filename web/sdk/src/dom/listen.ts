//! Event listeners as disposers.

import type { Disposer } from "../core/events.js";

type EventsOf<Target> = Target extends Window
  ? WindowEventMap
  : Target extends Document
    ? DocumentEventMap
    : Target extends HTMLElement
      ? HTMLElementEventMap
      : never;

export function listen<Target extends Window | Document | HTMLElement, Name extends keyof EventsOf<Target> & string>(
  target: Target,
  name: Name,
  listener: (event: EventsOf<Target>[Name]) => void,
  options: AddEventListenerOptions = {},
): Disposer {
  const untyped = listener as (event: Event) => void;
  target.addEventListener(name, untyped, options);
  return () => target.removeEventListener(name, untyped, options);
}
