//! Draws frames in a worker, so that a busy page delays no picture.
//!
//! `frameWorker` is sent to the worker as text: it must not use anything outside of itself.

/** To the worker. A new stream replaces the one before; the canvas comes with the first. */
export interface ToFrameWorker {
  readonly canvas?: OffscreenCanvas;
  readonly frames: ReadableStream<VideoFrame>;
}

/** From the worker, after each drawn frame. */
export interface FromFrameWorker {
  readonly rtpTimestamp: number | null;
  /** Milliseconds since the epoch, in a resolution that `Date` does not have: workers have a time origin of their own. */
  readonly shownEpochMs: number;
  readonly width: number;
  readonly height: number;
}

interface WorkerScope {
  onmessage: ((event: MessageEvent<ToFrameWorker>) => void) | null;
  postMessage(message: FromFrameWorker): void;
}

/** The worker's whole program. */
export function frameWorker(): void {
  const scope = globalThis as unknown as WorkerScope;
  let canvas: OffscreenCanvas | null = null;
  let context: OffscreenCanvasRenderingContext2D | null = null;
  let reader: ReadableStreamDefaultReader<VideoFrame> | null = null;

  const draw = (frame: VideoFrame): void => {
    if (canvas === null || context === null) return;
    const { displayWidth: width, displayHeight: height } = frame;
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    context.drawImage(frame, 0, 0, width, height);
    const metadata = (frame as VideoFrame & { metadata?: () => { rtpTimestamp?: number } }).metadata?.();
    scope.postMessage({
      rtpTimestamp: metadata?.rtpTimestamp ?? null,
      shownEpochMs: performance.timeOrigin + performance.now(),
      width,
      height,
    });
  };

  // The track's buffer holds one frame, the newest: whoever reads gets that, and older ones were dropped before.
  const run = async (frames: ReadableStreamDefaultReader<VideoFrame>): Promise<void> => {
    for (;;) {
      const { value: frame, done } = await frames.read();
      if (done) return;
      try {
        if (frames === reader) draw(frame);
      } finally {
        frame.close();
      }
    }
  };

  scope.onmessage = ({ data }) => {
    if (data.canvas !== undefined) {
      canvas = data.canvas;
      context = canvas.getContext("2d", { alpha: false, desynchronized: true });
    }
    reader?.cancel().catch(() => {});
    reader = data.frames.getReader();
    run(reader).catch(() => {});
  };
}
