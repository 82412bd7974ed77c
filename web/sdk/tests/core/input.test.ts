import { beforeEach, describe, expect, test } from "vitest";
import { type Channel, Input } from "../../src/core/input.js";
import { padState } from "../../src/core/pads.js";
import type { ClientMessage } from "../../src/protocol/wire.generated.js";

let sent: { channel: Channel; message: ClientMessage }[] = [];
let stamps: [number, number][] = [];
let input: Input;

const create = (keys: Record<string, string> = {}): Input =>
  new Input(
    {
      send: (channel, message) => sent.push({ channel, message: structuredClone(message) }),
      stamped: (sequence, timeMs) => stamps.push([sequence, timeMs]),
    },
    keys,
  );

/** What was sent since the last call, without stamps. */
function take(): string[] {
  const texts = sent.map(({ channel, message }) => {
    const { type, ...fields } = message as ClientMessage & { stamp?: unknown };
    delete fields.stamp;
    return `${channel} ${type} ${JSON.stringify(fields)}`;
  });
  sent = [];
  return texts;
}

beforeEach(() => {
  sent = [];
  stamps = [];
  input = create();
});

describe("keys", () => {
  test("go down and up once, however often the system repeats", () => {
    expect(input.key("KeyA", true, 1.5)).toBe(true);
    input.key("KeyA", true, 2);
    input.key("KeyA", false, 3);
    input.key("KeyA", false, 4);
    expect(take()).toEqual(['control key {"code":30,"pressed":true}', 'control key {"code":30,"pressed":false}']);
    expect(stamps).toEqual([
      [1, 1.5],
      [2, 3],
    ]);
  });

  test("that no game knows are the browser's", () => {
    expect(input.key("Unidentified", true, 0)).toBe(false);
    expect(take()).toEqual([]);
  });

  test("are sent as the app's manifest maps them", () => {
    input = create({ KeyW: "ArrowUp" });
    input.key("KeyW", true, 0);
    expect(take()).toEqual(['control key {"code":103,"pressed":true}']);
  });

  test("are all released at once, and only when some are held", () => {
    input.releaseAll();
    expect(take()).toEqual([]);
    input.key("KeyA", true, 0);
    input.pointerButton("left", true, 0);
    take();
    input.releaseAll();
    input.key("KeyA", false, 1);
    input.pointerButton("left", false, 1);
    expect(take()).toEqual(["control releaseAll {}"]);
  });
});

describe("pointer", () => {
  test("positions are fractions of the picture, and clicks carry them", () => {
    input.pointerMove(0.5, 2, 0);
    input.pointerMove(0.5, 2, 0);
    input.pointerButton("right", true, 0);
    expect(take()).toEqual([
      'motion pointerMove {"position":{"x":32768,"y":65535}}',
      'control pointerButton {"button":"right","pressed":true,"position":{"x":32768,"y":65535},"total":{"x":0,"y":0}}',
    ]);
  });

  test("motion is a running total in sixteenths, which wraps", () => {
    input.locked = true;
    input.pointerMotion(1, -2, 0);
    input.pointerMotion(0.5, 0, 0);
    input.pointerButton("left", true, 0);
    expect(take()).toEqual([
      'motion pointerMotion {"total":{"x":16,"y":-32}}',
      'motion pointerMotion {"total":{"x":24,"y":-32}}',
      'control pointerButton {"button":"left","pressed":true,"position":null,"total":{"x":24,"y":-32}}',
    ]);
    input.pointerMotion(134_217_727, 0, 0);
    expect(take()).toEqual(['motion pointerMotion {"total":{"x":-2147483640,"y":-32}}']);
  });

  test("the last motion is said again once, unless a click said it", () => {
    input.pointerMove(0, 0, 0);
    take();
    input.repeatMotion();
    input.repeatMotion();
    expect(take()).toHaveLength(1);
    input.pointerMove(1, 0, 0);
    input.pointerButton("left", true, 0);
    take();
    input.repeatMotion();
    expect(take()).toEqual([]);
  });

  test("the wheel counts in 1/120 of a notch and keeps the rest", () => {
    input.wheel(0, 100, 0, 0);
    input.wheel(0, -3, 1, 0);
    expect(take()).toEqual(['control wheel {"x":0,"y":120}', 'control wheel {"x":0,"y":-120}']);
    for (let step = 0; step < 10; step += 1) input.wheel(0, 0.5, 0, 0);
    const total = sent.reduce((sum, { message }) => sum + (message.type === "wheel" ? message.y : 0), 0);
    expect(total).toBe(6);
  });
});

describe("touch", () => {
  test("ends are reliable, moves are not, and a finger that is not down cannot move", () => {
    input.touch(1, "move", 0, 0, 0);
    input.touch(1, "start", 0, 0, 0);
    input.touch(1, "start", 0, 0, 0);
    input.touch(1, "move", 1, 0, 0);
    input.touch(1, "move", 1, 0, 0);
    input.touch(1, "end", 1, 0, 0);
    input.touch(16, "start", 0, 0, 0);
    expect(take().map((text) => text.slice(0, 40))).toEqual([
      'control touch {"id":1,"phase":"start","p',
      'motion touch {"id":1,"phase":"move","pos',
      'control touch {"id":1,"phase":"end","pos',
    ]);
    input.repeatMotion();
    expect(take()).toEqual([]);
  });
});

describe("gamepads", () => {
  const snapshot = (pressed: number[], axes: number[], trigger = 0) => ({
    buttons: Array.from({ length: 17 }, (_, index) => ({
      pressed: pressed.includes(index),
      value: index === 6 ? trigger : pressed.includes(index) ? 1 : 0,
    })),
    axes,
  });

  test("buttons are reliable, sticks are not, and what did not change is not sent", () => {
    input.padConnect(0);
    input.pad(0, padState(snapshot([], [0, 0, 0, 0])), 0);
    input.pad(0, padState(snapshot([0, 16], [0, 0, 0, 0])), 0);
    input.pad(0, padState(snapshot([0, 16], [-1, 1, 0.5, 0], 0.5)), 0);
    input.pad(1, padState(snapshot([3], [])), 0);
    expect(take()).toEqual([
      'control padConnect {"pad":0}',
      'control pad {"pad":0,"state":{"buttons":65537,"axes":[0,0,0,0],"triggers":[0,0]}}',
      'motion pad {"pad":0,"state":{"buttons":65537,"axes":[-32767,32767,16384,0],"triggers":[128,0]}}',
    ]);
  });

  test("are announced again to a new connection", () => {
    input.padConnect(2);
    take();
    input.reset();
    expect(take()).toEqual(['control padConnect {"pad":2}']);
    input.padDisconnect(2);
    input.padDisconnect(2);
    expect(take()).toEqual(['control padDisconnect {"pad":2}']);
  });
});

test("sequence numbers wrap past zero, which means none", () => {
  for (let index = 0; index < 3; index += 1) input.text("x", 0);
  expect(stamps.map(([sequence]) => sequence)).toEqual([1, 2, 3]);
});
