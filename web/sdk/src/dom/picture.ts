//! Frames to the screen. `<video>`, unless asked otherwise: measured on the display itself, a frame reaches it 5 ms earlier than by way
//! of the page's own drawing, at half of the browser's CPU time (docs/decisions). A page that wants to draw gets a canvas, where its
//! browser lets it read frames. Always the newest frame; nothing is queued. The last picture stays while a connection is replaced.

import { DisplayQueue } from "../core/display-queue.js";
import type { ShownFrame } from "../core/ledger.js";
import type { PictureKind } from "../core/statistics.js";
import { type FrameWithMetadata, trackProcessor } from "./platform.js";

export interface ShownPicture extends ShownFrame {
  readonly width: number;
  readonly height: number;
  /** How long the frame lay ready before the display's beat that took it; `null` where the browser does not tell. */
  readonly slackMs: number | null;
  /** True when it waited an interval of the display, as the frame before it had taken its place. */
  readonly waited: boolean;
}

export type OnShown = (shown: ShownPicture) => void;

export interface Picture {
  readonly kind: PictureKind;
  /** Holds the canvas or video; fills its parent. */
  readonly element: HTMLElement;
  /** Shows this track from now on. */
  attach(track: MediaStreamTrack): void;
  dispose(): void;
}

/** The wanted way where it works here, else `<video>`. */
export function createPicture(onShown: OnShown, wanted: PictureKind = "video"): Picture {
  return wanted === "canvas" && trackProcessor() !== null ? canvasPicture(onShown) : videoPicture(onShown);
}

function pictureElement<Name extends "canvas" | "video" | "div">(name: Name): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  element.className = "kite-picture";
  return element;
}

function canvasPicture(onShown: OnShown): Picture {
  const element = pictureElement("canvas");
  const context = element.getContext("2d", { alpha: false, desynchronized: true });
  const Processor = trackProcessor();
  let reader: ReadableStreamDefaultReader<VideoFrame> | null = null;

  const draw = (frame: FrameWithMetadata): void => {
    const { displayWidth: width, displayHeight: height } = frame;
    if (element.width !== width || element.height !== height) {
      element.width = width;
      element.height = height;
    }
    context?.drawImage(frame, 0, 0, width, height);
    onShown({
      rtpTimestamp: frame.metadata?.().rtpTimestamp ?? null,
      shownMs: performance.now(),
      width,
      height,
      slackMs: null,
      waited: false,
    });
  };
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
  return {
    kind: "canvas",
    element,
    attach(track) {
      if (Processor === null) return;
      reader?.cancel().catch(() => {});
      reader = new Processor({ track, maxBufferSize: 1 }).readable.getReader();
      run(reader).catch(() => {});
    },
    dispose() {
      reader?.cancel().catch(() => {});
      reader = null;
    },
  };
}

function videoPicture(onShown: OnShown): Picture {
  const element = pictureElement("div");
  const queue = new DisplayQueue();
  let current: HTMLVideoElement | null = null;

  const follow = (video: HTMLVideoElement): void => {
    video.requestVideoFrameCallback((now, metadata) => {
      if (video.srcObject === null) return;
      // The first new frame is there: only now the old picture may go.
      while (video.previousSibling !== null) drop(video.previousSibling as HTMLVideoElement);
      const { rtpTimestamp, width, height, presentationTime, presentedFrames, expectedDisplayTime } = metadata;
      const shownMs = Math.max(now, expectedDisplayTime);
      const [slackMs, waited] = [now - presentationTime, queue.shown(presentationTime, now, presentedFrames)];
      onShown({ rtpTimestamp: rtpTimestamp ?? null, shownMs, width, height, slackMs, waited });
      follow(video);
    });
  };
  const drop = (video: HTMLVideoElement): void => {
    video.srcObject = null;
    video.remove();
  };
  return {
    kind: "video",
    element,
    attach(track) {
      const video = document.createElement("video");
      video.className = "kite-picture";
      video.autoplay = true;
      // Sound has an element of its own, so that waiting for it cannot delay the picture.
      video.muted = true;
      video.playsInline = true;
      video.disablePictureInPicture = true;
      video.srcObject = new MediaStream([track]);
      element.append(video);
      current = video;
      if ("requestVideoFrameCallback" in video) follow(video);
      else followByTime(video, onShown, () => current === video);
      video.play().catch(() => {});
    },
    dispose() {
      current = null;
      for (const video of [...element.querySelectorAll("video")]) drop(video);
    },
  };
}

/** Without `requestVideoFrameCallback` a frame is noticed by the time that has moved on, at the next display frame. */
function followByTime(video: HTMLVideoElement, onShown: OnShown, isCurrent: () => boolean): void {
  let lastTime = -1;
  const look = (now: number): void => {
    if (!isCurrent()) {
      video.remove();
      return;
    }
    if (video.currentTime !== lastTime && video.videoWidth > 0) {
      lastTime = video.currentTime;
      const { videoWidth: width, videoHeight: height } = video;
      onShown({ rtpTimestamp: null, shownMs: now, width, height, slackMs: null, waited: false });
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
