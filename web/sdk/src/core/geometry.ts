//! Where the picture lies inside of its element: it keeps its shape, with bars around it.

export interface Rectangle {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** The picture's place when it is fitted into `box` (`object-fit: contain`). */
export function contained(box: Rectangle, pictureWidth: number, pictureHeight: number): Rectangle {
  if (pictureWidth <= 0 || pictureHeight <= 0 || box.width <= 0 || box.height <= 0) return box;
  const scale = Math.min(box.width / pictureWidth, box.height / pictureHeight);
  const width = pictureWidth * scale;
  const height = pictureHeight * scale;
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

/** A point of the page as fractions of the picture, not clamped. */
export function fractions(place: Rectangle, x: number, y: number): { readonly x: number; readonly y: number } {
  return { x: (x - place.left) / (place.width || 1), y: (y - place.top) / (place.height || 1) };
}

/**
 * The size to ask the streamer for: the element's device pixels, shrunk to as many as the session may have, in the
 * element's shape; even, as video needs it.
 */
export function streamSize(
  box: { readonly width: number; readonly height: number },
  pixelRatio: number,
  maxPixels: number,
): { readonly width: number; readonly height: number } {
  const width = Math.max(2, box.width * pixelRatio);
  const height = Math.max(2, box.height * pixelRatio);
  const scale = Math.min(1, Math.sqrt(maxPixels / (width * height)));
  // A hair is added, so that 1280 * 1 is not 1279.999.
  const even = (value: number): number => Math.max(2, Math.min(65_534, Math.floor((value * scale + 0.001) / 2) * 2));
  return { width: even(width), height: even(height) };
}
