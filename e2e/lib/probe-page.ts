/**
 * Runs inside a page, before its own scripts: notes when a new frame of the probe is first shown.
 *
 * A frame counts as shown at the end of the first animation frame in which the product's largest picture (`<video>` or
 * `<canvas>`, however it is drawn) holds it. The page's `requestAnimationFrame` is wrapped so that looking always comes
 * after the product's own callbacks: a product that draws in an animation frame is seen in that same one.
 *
 * Deliberately absent: anything that knows a product.
 */

import { COLUMNS, ROWS, decodeStrip } from "./strip.ts";
import type { Strip } from "./strip.ts";

/** A new frame, when it was first seen by the page's clock. */
export interface Shown extends Strip {
  readonly atMs: number;
}

/** What the harness takes out of the page. */
export interface Recording {
  readonly shown: Shown[];
  /** Animation frames since the last take. */
  readonly animationFrames: number;
  /** Looks at a picture that held no readable strip. */
  readonly unreadable: number;
}

/** What the harness calls. */
export interface Bench {
  /** Takes everything recorded since the last call. */
  take(): Recording;
  /** Toggles shown so far since the page began, not wrapping; `undefined` before the first readable frame. */
  toggles(): number | undefined;
}

declare global {
  interface Window {
    kiteBench?: Bench;
  }
}

type Picture = HTMLVideoElement | HTMLCanvasElement;

const PER_CELL = 4;
const MAX_RECORDS = 200_000;

const small = new OffscreenCanvas(COLUMNS * PER_CELL, ROWS * PER_CELL);
const context = small.getContext("2d", { willReadFrequently: true, alpha: false });
if (context) context.imageSmoothingEnabled = false;

let shown: Shown[] = [];
let unreadable = 0;
let animationFrames = 0;
let picture: Picture | undefined;
let lastNewMs = 0;
let lastFrame = -1;
let togglesShown: number | undefined;
let lastToggles = 0;

function pictures(root: Document | ShadowRoot, found: Picture[] = []): Picture[] {
  for (const element of root.querySelectorAll("*")) {
    if (element instanceof HTMLVideoElement || element instanceof HTMLCanvasElement) found.push(element);
    if (element.shadowRoot) pictures(element.shadowRoot, found);
  }
  return found;
}

function area(element: Picture): number {
  const box = element.getBoundingClientRect();
  return getComputedStyle(element).visibility === "hidden" ? 0 : box.width * box.height;
}

/** Cells from pixels of one byte each at `offset + x * step + y * stride`: white where the middle of the cell is light. */
function threshold(pixels: Uint8Array | Uint8ClampedArray, offset: number, stride: number, step: number, side: number): boolean[] {
  const cells: boolean[] = [];
  for (let row = 0; row < ROWS; row++) {
    for (let column = 0; column < COLUMNS; column++) {
      let sum = 0;
      for (const dy of [0.4, 0.6]) {
        for (const dx of [0.4, 0.6]) {
          const [x, y] = [Math.floor((column + dx) * side), Math.floor((row + dy) * side)];
          sum += pixels[offset + y * stride + x * step] ?? 0;
        }
      }
      cells.push(sum > 4 * 127);
    }
  }
  return cells;
}

/** A `<video>`'s current frame: only the strip's bytes are copied, which costs the page next to nothing. */
async function readVideo(video: HTMLVideoElement): Promise<boolean[] | undefined> {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return undefined;
  const frame = new VideoFrame(video);
  try {
    const visible = frame.visibleRect;
    const side = Math.floor((visible?.width ?? 0) / COLUMNS);
    if (!visible || side < 4) return undefined;
    const rect = { x: visible.x, y: visible.y, width: visible.width & ~1, height: (side * ROWS) & ~1 };
    const bytes = new Uint8Array(frame.allocationSize({ rect }));
    const packed = frame.format?.startsWith("RGB") === true || frame.format?.startsWith("BGR") === true;
    const [plane] = await frame.copyTo(bytes, { rect });
    if (!plane) return undefined;
    return threshold(bytes, plane.offset + (packed ? 1 : 0), plane.stride, packed ? 4 : 1, side);
  } finally {
    frame.close();
  }
}

/** A canvas, whoever draws it and however: only the strip is drawn over. */
function readCanvas(canvas: HTMLCanvasElement): boolean[] | undefined {
  const side = Math.floor(canvas.width / COLUMNS);
  if (side < 4 || !context) return undefined;
  context.drawImage(canvas, 0, 0, side * COLUMNS, side * ROWS, 0, 0, small.width, small.height);
  const pixels = context.getImageData(0, 0, small.width, small.height).data;
  return threshold(pixels, 1, small.width * 4, 4, PER_CELL);
}

async function read(element: Picture): Promise<Strip | undefined> {
  const cells = element instanceof HTMLVideoElement ? await readVideo(element) : readCanvas(element);
  return cells && decodeStrip(cells);
}

/** The largest picture that holds the probe's strip. */
async function find(): Promise<void> {
  const candidates = pictures(document).filter((element) => area(element) > 10_000);
  candidates.sort((a, b) => area(b) - area(a));
  for (const candidate of candidates) {
    if ((await read(candidate).catch(() => undefined)) === undefined) continue;
    picture = candidate;
    return;
  }
}

function note(strip: Strip, atMs: number): void {
  if (strip.frame === lastFrame) return;
  lastNewMs = atMs;
  lastFrame = strip.frame;
  togglesShown = (togglesShown ?? 0) + (togglesShown === undefined ? 0 : (strip.toggles - lastToggles + 256) % 256);
  lastToggles = strip.toggles;
  if (shown.length < MAX_RECORDS) shown.push({ atMs, ...strip });
}

async function look(): Promise<void> {
  const begunMs = performance.now();
  animationFrames++;
  // A product may replace its element; searching is expensive, so only when the known one fell silent.
  if ((picture === undefined || begunMs - lastNewMs > 500) && animationFrames % 15 === 0) await find();
  if (picture === undefined) return;
  const strip = await read(picture);
  if (strip) note(strip, begunMs);
  else unreadable++;
}

const nativeRequest = window.requestAnimationFrame.bind(window);
let waiting = new Map<number, FrameRequestCallback>();
let nextHandle = 1;

function animationFrame(nowMs: number): void {
  nativeRequest(animationFrame);
  const due = waiting;
  waiting = new Map();
  for (const [handle, callback] of due) {
    // A callback of the same frame may have cancelled it.
    if (cancelled.delete(handle)) continue;
    try {
      callback(nowMs);
    } catch (error) {
      reportError(error);
    }
  }
  cancelled.clear();
  look().catch(() => unreadable++);
}

const cancelled = new Set<number>();
window.requestAnimationFrame = (callback) => {
  const handle = nextHandle++;
  waiting.set(handle, callback);
  return handle;
};
window.cancelAnimationFrame = (handle) => {
  if (!waiting.delete(handle)) cancelled.add(handle);
};
nativeRequest(animationFrame);

window.kiteBench = {
  take() {
    const recording: Recording = { shown, animationFrames, unreadable };
    [shown, unreadable, animationFrames] = [[], 0, 0];
    return recording;
  },
  toggles: () => togglesShown,
};
