import { describe, expect, test, vi } from "vitest";
import { cursorCss } from "../../src/core/cursor.js";
import { Emitter } from "../../src/core/events.js";
import { contained, fractions, streamSize } from "../../src/core/geometry.js";
import { toldBy } from "../../src/core/link.js";
import { endTitle } from "../../src/core/reasons.js";
import { FrameCounter, transportRates } from "../../src/core/statistics.js";

describe("geometry", () => {
  const box = { left: 10, top: 20, width: 1000, height: 1000 };
  test.each([
    [1280, 720, { left: 10, top: 238.75, width: 1000, height: 562.5 }],
    [500, 1000, { left: 260, top: 20, width: 500, height: 1000 }],
    [0, 0, box],
  ])("a picture of %d x %d keeps its shape", (width, height, expected) => {
    expect(contained(box, width, height)).toEqual(expected);
  });

  test("points are fractions of the picture", () => {
    expect(fractions({ left: 10, top: 20, width: 200, height: 100 }, 110, 45)).toEqual({ x: 0.5, y: 0.25 });
  });

  test.each([
    [1280, 720, 1, 921_600, 1280, 720],
    [1281, 721, 1, Number.POSITIVE_INFINITY, 1280, 720],
    [390, 844, 3, 921_600, 652, 1412],
    [1920, 1080, 1, 921_600, 1280, 720],
    [1, 1, 1, 100, 2, 2],
  ])("%d x %d at %d asks within %d pixels for %d x %d", (width, height, ratio, pixels, wide, high) => {
    expect(streamSize({ width, height }, ratio, pixels)).toEqual({ width: wide, height: high });
  });
});

describe("cursor", () => {
  const image = { width: 2, height: 1, hotspotX: 1, hotspotY: 0, rgba: new Uint8Array(8) };
  test.each([
    [{ type: "hidden" } as const, "none"],
    [{ type: "named", value: "ns-resize" } as const, "ns-resize"],
    [{ type: "named", value: "url(evil)" } as const, "default"],
    [{ type: "image", value: image } as const, 'url("data:x") 1 0, default'],
    [{ type: "image", value: { ...image, rgba: new Uint8Array(7) } } as const, "default"],
    [{ type: "image", value: { ...image, hotspotX: 2 } } as const, "default"],
  ])("%j", (cursor, expected) => {
    expect(cursorCss(cursor, () => "data:x")).toBe(expected);
  });
});

describe("events", () => {
  test("a disposer and a signal both end listening", () => {
    const emitter = new Emitter<{ tick: number }>();
    const [first, second, third] = [vi.fn(), vi.fn(), vi.fn()];
    const abort = new AbortController();
    const dispose = emitter.on("tick", first);
    emitter.on("tick", second, { signal: abort.signal });
    emitter.emit("tick", 1);
    dispose();
    abort.abort();
    emitter.on("tick", third, { signal: abort.signal });
    emitter.emit("tick", 2);
    expect([first, second, third].map((listener) => listener.mock.calls)).toEqual([[[1]], [[1]], []]);
  });
});

describe("link messages", () => {
  test.each([
    undefined,
    "",
    "nonsense",
    "[]",
    "null",
    '{"type":"session"}',
    '{"type":"session","session":{}}',
    '{"type":"statistics","statistics":{}}',
  ])("%j tells of none", (text) => expect(toldBy(text)).toBeNull());

  test("a session is told", () => {
    const session = { id: "ses_1", sentence: "x", revision: 1, state: { state: "reserved" } };
    expect(toldBy(JSON.stringify({ type: "session", session }))).toEqual({ type: "session", session });
    const queue = { cause: "capacity", position: 2, sentence: "You are number 2.", sites: [] };
    expect(toldBy(JSON.stringify({ type: "queue", queue }))).toEqual({ type: "queue", queue });
    expect(toldBy(JSON.stringify({ type: "queue", queue: { ...queue, position: "2" } }))).toBeNull();
  });
});

describe("statistics", () => {
  test("rates are differences of counters", () => {
    const before = {
      atMs: 1_000,
      bytes: 0,
      packets: 100,
      packetsLost: 0,
      framesDecoded: 10,
      decodeS: 1,
      freezes: 0,
      codec: "H264",
      width: 1280,
      height: 720,
    };
    const now = {
      ...before,
      atMs: 2_000,
      bytes: 1_000_000,
      packets: 199,
      packetsLost: 1,
      framesDecoded: 70,
      decodeS: 1.3,
    };
    expect(transportRates(null, now)).toEqual({ bitrateKbps: 0, loss: 0, decodeMs: null, framesDecoded: 0 });
    expect(transportRates(before, now)).toEqual({
      bitrateKbps: 8_000,
      loss: 0.01,
      decodeMs: expect.closeTo(5, 6),
      framesDecoded: 60,
    });
  });

  test("frames are counted between reports", () => {
    const counter = new FrameCounter();
    counter.take(0);
    for (const at of [10, 26, 60]) counter.shown(at);
    expect(counter.take(500)).toEqual({ shown: 3, framesPerSecond: 6, longestGapMs: 34, slackMs: null, waiting: 0 });
    expect(counter.take(1_000)).toEqual({ shown: 0, framesPerSecond: 0, longestGapMs: 0, slackMs: null, waiting: 0 });
  });

  test("the slack is what nine of ten frames have, whatever a few late ones do", () => {
    const counter = new FrameCounter();
    for (let frame = 0; frame < 20; frame++) counter.shown(frame * 16, frame === 7 ? 0.1 : 9 + frame / 10);
    counter.shown(400, null);
    counter.shown(416, -3);
    expect(counter.take(500).slackMs).toBe(9.1);
  });
});

test("every reason has a title, also those of newer servers", () => {
  expect(endTitle("game_exited")).toBe("Game closed");
  expect(endTitle("toString")).toBe("The session is over");
});
