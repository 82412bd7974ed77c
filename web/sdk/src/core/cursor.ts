//! The pointer's look as CSS, checked: it came over the network.

import type { Cursor, CursorImage } from "../protocol/wire.generated.js";

/** Larger ones no browser shows. */
const MAX_EDGE = 128;

export function isValidCursorImage(image: CursorImage): boolean {
  const { width, height } = image;
  return (
    width >= 1 &&
    width <= MAX_EDGE &&
    height >= 1 &&
    height <= MAX_EDGE &&
    image.hotspotX < width &&
    image.hotspotY < height &&
    image.rgba.length === width * height * 4
  );
}

/** The value of the `cursor` property; `toUrl` makes an address out of the pixels. */
export function cursorCss(cursor: Cursor, toUrl: (image: CursorImage) => string | null): string {
  switch (cursor.type) {
    case "hidden":
      return "none";
    case "named":
      return /^[a-z-]{1,32}$/.test(cursor.value) ? cursor.value : "default";
    case "image": {
      const url = isValidCursorImage(cursor.value) ? toUrl(cursor.value) : null;
      return url === null ? "default" : `url("${url}") ${cursor.value.hotspotX} ${cursor.value.hotspotY}, default`;
    }
  }
}
