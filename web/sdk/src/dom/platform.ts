//! What TypeScript's DOM library does not know yet, typed once.

/** Reads a track's frames (W3C mediacapture-transform). Chromium has it. */
export interface TrackProcessor {
  readonly readable: ReadableStream<VideoFrame>;
}
type TrackProcessorConstructor = new (init: { track: MediaStreamTrack; maxBufferSize?: number }) => TrackProcessor;

/** `null` where pages cannot read frames (Firefox, Safari): they can only show `<video>`. */
export function trackProcessor(): TrackProcessorConstructor | null {
  const scope = globalThis as { MediaStreamTrackProcessor?: TrackProcessorConstructor };
  return scope.MediaStreamTrackProcessor ?? null;
}

/** A frame with metadata (W3C WebCodecs registry), where the browser has them. */
export type FrameWithMetadata = VideoFrame & { metadata?: () => { readonly rtpTimestamp?: number } };

/** Asks the jitter buffer for no delay: by the standard's name and by Chromium's older one. */
export function withoutBuffering(receiver: RTCRtpReceiver): void {
  const tunable = receiver as RTCRtpReceiver & { jitterBufferTarget?: number | null; playoutDelayHint?: number | null };
  if ("jitterBufferTarget" in tunable) tunable.jitterBufferTarget = 0;
  if ("playoutDelayHint" in tunable) tunable.playoutDelayHint = 0;
}

/** `navigator.keyboard` (W3C Keyboard Lock): Escape and the system's keys reach the page in fullscreen. */
export interface KeyboardLock {
  lock(codes?: readonly string[]): Promise<void>;
  unlock(): void;
}

export function keyboardLock(): KeyboardLock | null {
  const keyboard = (navigator as { keyboard?: Partial<KeyboardLock> }).keyboard;
  return keyboard?.lock === undefined || keyboard.unlock === undefined ? null : (keyboard as KeyboardLock);
}

/**
 * Locks the pointer, with the mouse's own motion where the system gives it (W3C Pointer Lock 2.0). Rejects where it is
 * refused, resolves false where there is no such thing (iOS).
 */
export async function lockPointer(element: HTMLElement): Promise<boolean> {
  const request = element.requestPointerLock as
    | ((options?: { unadjustedMovement?: boolean }) => Promise<void> | undefined)
    | undefined;
  if (request === undefined) return false;
  try {
    await request.call(element, { unadjustedMovement: true });
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotSupportedError") throw error;
    await request.call(element);
  }
  return true;
}

/** `pointerrawupdate` comes as the mouse reports, not once a frame. Only in secure contexts of Chromium. */
export const POINTER_MOVE: "pointermove" = (
  "onpointerrawupdate" in globalThis ? "pointerrawupdate" : "pointermove"
) as "pointermove";
