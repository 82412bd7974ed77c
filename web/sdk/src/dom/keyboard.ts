//! Keys by place, the clipboard, and texts of on-screen keyboards.

import { type Disposer, Disposers } from "../core/events.js";
import type { Input } from "../core/input.js";
import { listen } from "./listen.js";

/** A paste event follows its key press at once, or never (an empty clipboard). */
const PASTE_PATIENCE_MS = 30;

/** Keys pressed while `root` has the focus go to the game, and nowhere else. */
export function captureKeyboard(root: HTMLElement, input: Input): Disposer {
  const disposers = new Disposers();
  let heldPaste: { readonly timeMs: number; readonly timer: ReturnType<typeof setTimeout> } | null = null;

  const releasePaste = (): void => {
    if (heldPaste === null) return;
    clearTimeout(heldPaste.timer);
    input.key("KeyV", true, heldPaste.timeMs);
    heldPaste = null;
  };

  disposers.add(
    listen(root, "keydown", (event) => {
      if (event.isComposing || isTextField(event.target)) return;
      releasePaste();
      if (event.code === "KeyV" && (event.ctrlKey || event.metaKey) && !event.repeat) {
        // The press waits for the paste event that it causes: the game must find the new clipboard when it hears the key.
        heldPaste = { timeMs: event.timeStamp, timer: setTimeout(releasePaste, PASTE_PATIENCE_MS) };
        return;
      }
      if (input.key(event.code, true, event.timeStamp)) event.preventDefault();
    }),
    listen(root, "keyup", (event) => {
      if (isTextField(event.target)) return;
      releasePaste();
      if (input.key(event.code, false, event.timeStamp)) event.preventDefault();
    }),
    listen(document, "paste", (event) => {
      if (!root.contains(document.activeElement) || isTextField(event.target)) return;
      const text = event.clipboardData?.getData("text/plain");
      if (text) input.clipboard(text);
      event.preventDefault();
      releasePaste();
    }),
    () => clearTimeout(heldPaste?.timer),
  );
  return () => disposers.dispose();
}

function isTextField(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}

/** Releases everything when the page will not hear of keys going up any more. */
export function releaseOnBlur(root: HTMLElement, input: Input): Disposer {
  const release = (): void => input.releaseAll();
  const disposers = new Disposers();
  disposers.add(
    listen(window, "blur", release),
    listen(window, "pagehide", release),
    listen(root, "blur", release),
    listen(document, "visibilitychange", () => {
      if (document.visibilityState === "hidden") release();
    }),
  );
  return () => disposers.dispose();
}

/**
 * The game's clipboard becomes the player's. Browsers allow that only shortly after a key or a click, so what is refused
 * now is tried again at the next one.
 */
export function clipboardWriter(root: HTMLElement): { write(text: string): void; dispose: Disposer } {
  let waiting: string | null = null;
  const attempt = (): void => {
    if (waiting === null) return;
    const text = waiting;
    navigator.clipboard?.writeText(text).then(
      () => {
        if (waiting === text) waiting = null;
      },
      () => {},
    );
  };
  const disposers = new Disposers();
  disposers.add(listen(root, "keyup", attempt), listen(root, "pointerup", attempt));
  return {
    write(text) {
      waiting = text;
      attempt();
    },
    dispose: () => disposers.dispose(),
  };
}
