//! The player's element: picture, pointer's look, fullscreen, size.

import { cursorCss } from "../core/cursor.js";
import { type Disposer, Disposers } from "../core/events.js";
import { contained, type Rectangle } from "../core/geometry.js";
import type { Cursor, CursorImage } from "../protocol/wire.generated.js";
import { listen } from "./listen.js";
import { keyboardLock } from "./platform.js";
import { adoptStyle } from "./style.js";

/** A window that is being dragged has a new size at each frame; the streamer is told when it rests. */
const RESIZE_REST_MS = 150;

export interface ViewSize {
  readonly width: number;
  readonly height: number;
}

export class View {
  readonly root: HTMLElement;
  readonly #disposers = new Disposers();
  #picture: ViewSize = { width: 0, height: 0 };

  constructor(parent: HTMLElement, onResize: (size: ViewSize) => void) {
    adoptStyle();
    this.root = document.createElement("div");
    this.root.className = "kite-player";
    this.root.tabIndex = 0;
    this.root.role = "application";
    this.root.ariaLabel = "Game";
    parent.append(this.root);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const observer = new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => onResize(this.size), RESIZE_REST_MS);
    });
    observer.observe(this.root);
    this.#disposers.add(
      () => observer.disconnect(),
      () => clearTimeout(timer),
      () => this.root.remove(),
      listen(document, "fullscreenchange", () => this.#fullscreenChanged()),
    );
  }

  /** Of the element, in CSS pixels. */
  get size(): ViewSize {
    return { width: this.root.clientWidth, height: this.root.clientHeight };
  }

  set pictureSize(size: ViewSize) {
    this.#picture = size;
  }

  get pictureSize(): ViewSize {
    return this.#picture;
  }

  /** Where the picture is, without the bars around it, in the page's coordinates. */
  readonly place = (): Rectangle => {
    const box = this.root.getBoundingClientRect();
    return contained(box, this.#picture.width, this.#picture.height);
  };

  set cursor(cursor: Cursor) {
    this.root.style.cursor = cursorCss(cursor, imageUrl);
  }

  /** The element that becomes full screen is the caller's parent, so that its own controls stay visible. */
  async fullscreen(on: boolean): Promise<void> {
    if (!on) {
      if (document.fullscreenElement !== null) await document.exitFullscreen();
      return;
    }
    const target = this.root.parentElement ?? this.root;
    if (target.requestFullscreen !== undefined) await target.requestFullscreen({ navigationUI: "hide" });
  }

  #fullscreenChanged(): void {
    const isFull = document.fullscreenElement?.contains(this.root) ?? false;
    // In fullscreen Escape, Tab with Alt and the like go to the game; holding Escape leaves it.
    if (isFull)
      keyboardLock()
        ?.lock()
        .catch(() => {});
    else keyboardLock()?.unlock();
  }

  readonly dispose: Disposer = () => {
    keyboardLock()?.unlock();
    this.#disposers.dispose();
  };
}

function imageUrl(image: CursorImage): string | null {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  if (context === null) return null;
  context.putImageData(new ImageData(new Uint8ClampedArray(image.rgba), image.width, image.height), 0, 0);
  return canvas.toDataURL();
}
