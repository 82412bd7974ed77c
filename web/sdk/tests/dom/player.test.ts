import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { PlayerOptions } from "../../src/index.js";
import type { ClientMessage, ServerMessage } from "../../src/protocol/wire.generated.js";
import { type Bench, makeSession, startBench, until } from "./browser.js";
import type { TestSession } from "./server.js";

let bench: Bench;
let page: Page;
let session: TestSession;

beforeAll(async () => {
  bench = await startBench();
});
afterAll(() => bench?.close());
afterEach(async () => {
  await page?.context().close();
});

type Context = Parameters<Bench["newContext"]>[0];
type Extra = Omit<PlayerOptions, "session" | "signal">;

async function open(context: Context = {}): Promise<void> {
  const opened = await bench.newContext({
    viewport: { width: 800, height: 450 },
    permissions: ["clipboard-read", "clipboard-write"],
    ...context,
  });
  page = await opened.newPage();
  await page.goto(`${bench.server.origin}/player.html`);
}

/** Opens a page and plays until pictures and both channels are there. */
async function play(extra: Extra = {}, context: Context = {}): Promise<void> {
  await open(context);
  await bench.streamer.evaluate(() => window.streamer.take());
  session = makeSession(bench.server);
  const { id } = session.session;
  await page.evaluate(({ session, extra }) => window.page.play({ session, ...extra }), {
    session: { id, token: session.token },
    extra,
  });
  await until(
    () => page.evaluate(() => [window.page.player?.state.name, window.page.frames] as const),
    ([state, frames]) => state === "playing" && frames > 2,
  );
}

const say = (message: ServerMessage): Promise<void> =>
  bench.streamer.evaluate((message) => window.streamer.send("kite-control", message), message);

const STAMPED = /^(kite-\w+) /;

/** What the streamer got, as `channel type {fields}` without stamps, until `enough` of them came. */
const got = (enough: number, drop?: readonly string[]): Promise<string[]> =>
  gotUntil((all) => all.length >= enough, drop);

async function gotUntil(
  isEnough: (all: readonly string[]) => boolean,
  drop: readonly string[] = ["hello", "resize"],
): Promise<string[]> {
  const all: string[] = [];
  await until(
    async () => {
      const messages = await bench.streamer.evaluate(() => window.streamer.take());
      for (const { channel, message } of messages) {
        const { type, stamp: _, ...fields } = message as ClientMessage & { stamp?: unknown };
        if (!drop.includes(type) && STAMPED.test(`${channel} `))
          all.push(`${channel} ${type} ${JSON.stringify(fields)}`);
      }
      return all;
    },
    isEnough,
    5_000,
  );
  return all;
}

const drain = (): Promise<unknown> => bench.streamer.evaluate(() => window.streamer.take());

describe("a play", () => {
  test("begins: channels as the contract wants, hello, size, picture, statistics, clock", async () => {
    await play();
    const first = await bench.streamer.evaluate(() => window.streamer.take());
    const texts = first.map(({ channel, message }) => `${channel} ${"text" in message ? message.text : message.type}`);
    expect(texts).toContain("opened kite-control ordered reliable");
    expect(texts).toContain("opened kite-motion unordered 0");
    expect(texts).toContain("kite-control hello");
    expect(first.find(({ message }) => message.type === "resize")?.message).toEqual({
      type: "resize",
      width: 800,
      height: 450,
    });
    const statistics = await until(
      () => page.evaluate(() => window.page.player?.statistics()),
      (statistics) => (statistics?.framesPerSecond ?? 0) > 5 && statistics?.roundTripMs !== null,
    );
    expect(statistics).toMatchObject({ picture: "video", width: 640, height: 360 });
    expect(["H264", "VP8"]).toContain(statistics?.codec);
    const reports = await until(
      () => bench.streamer.evaluate(() => window.streamer.reports()),
      (reports) => reports.length > 0,
    );
    expect(reports[0]).toMatchObject({
      type: "report",
      value: { dropped: expect.any(Number), displaySlack100us: expect.any(Number) },
    });
    expect(await page.evaluate(() => window.page.errors)).toEqual([]);
    // Frames carry their RTP timestamp, by which they are matched to their marks.
    expect(await page.evaluate(() => window.page.frames - window.page.stampedFrames)).toBe(0);
  });

  test.each(["canvas", "video"] as const)("shows moving pictures by %s", async (picture) => {
    await play({ picture });
    expect(await page.evaluate(() => window.page.player?.statistics().picture)).toBe(picture);
    const shot = async (): Promise<string> => (await page.screenshot()).toString("base64");
    const first = await shot();
    await until(shot, (next) => next !== first);
    await until(
      () => page.evaluate(() => window.page.frames),
      (frames) => frames > 20,
    );
  });

  test("the link carries the session; leaving says so on both ways and ends it", async () => {
    await play();
    await page.evaluate(() => window.page.player?.leave());
    expect(await page.evaluate(() => window.page.player?.state)).toMatchObject({
      name: "ended",
      reason: "player_left",
    });
    await until(
      () => session.heard,
      (heard) => JSON.stringify(heard) === '[{"type":"leave"}]',
    );
    await until(
      () => session.session.state.state,
      (state) => state === "ended",
    );
    expect(bench.server.requests.some((request) => /^DELETE .*\/whep\/.+/.test(request))).toBe(true);
  });

  test("disposing leaves nothing behind in the page", async () => {
    await play();
    const left = await page.evaluate(() => {
      window.page.player?.dispose();
      return document.getElementById("stage")?.childElementCount;
    });
    expect(left).toBe(0);
    await until(
      () => session.links.size,
      (links) => links === 0,
    );
    const frames = await page.evaluate(() => window.page.frames);
    await page.waitForTimeout(300);
    expect(await page.evaluate(() => window.page.frames)).toBe(frames);
  });
});

describe("keyboard", () => {
  test("keys travel by their place, once, and are released when the page loses the focus", async () => {
    await play();
    await drain();
    await page.keyboard.down("w");
    await page.keyboard.down("w");
    await page.keyboard.press("F5");
    await page.keyboard.down("ShiftLeft");
    expect(await got(4)).toEqual([
      'kite-control key {"code":17,"pressed":true}',
      'kite-control key {"code":63,"pressed":true}',
      'kite-control key {"code":63,"pressed":false}',
      'kite-control key {"code":42,"pressed":true}',
    ]);
    await page.evaluate(() => window.dispatchEvent(new Event("blur")));
    expect(await got(1)).toEqual(["kite-control releaseAll {}"]);
  });

  test("the manifest's mapping is used", async () => {
    const touch = { mode: "pointer" } as const;
    await play({ input: { keyboard: true, mouse: "auto", gamepads: 0, keys: { KeyW: "ArrowUp" }, touch } });
    await drain();
    await page.keyboard.press("w");
    expect(await got(2)).toEqual([
      'kite-control key {"code":103,"pressed":true}',
      'kite-control key {"code":103,"pressed":false}',
    ]);
  });

  test("a paste reaches the game before its key; the game's copy reaches the clipboard", async () => {
    await play();
    await page.evaluate(() => navigator.clipboard.writeText("from the player"));
    await drain();
    await page.keyboard.press("Control+v");
    expect((await got(5)).map((text) => text.replace("kite-control ", ""))).toEqual([
      'key {"code":29,"pressed":true}',
      'clipboard {"text":"from the player"}',
      'key {"code":47,"pressed":true}',
      'key {"code":47,"pressed":false}',
      'key {"code":29,"pressed":false}',
    ]);
    await say({ type: "clipboard", text: "from the game" });
    await until(
      () => page.evaluate(() => navigator.clipboard.readText()),
      (text) => text === "from the game",
    );
  });
});

describe("mouse", () => {
  test("positions are fractions of the picture; buttons carry them; the wheel counts notches", async () => {
    await play();
    await drain();
    await page.mouse.move(400, 225);
    await page.mouse.down();
    await page.mouse.move(600, 225);
    await page.mouse.up();
    await page.mouse.click(0, 0, { button: "right" });
    await page.mouse.wheel(0, 100);
    const texts = await got(8);
    expect(texts).toContain('kite-motion pointerMove {"position":{"x":32768,"y":32768}}');
    expect(texts).toContain(
      'kite-control pointerButton {"button":"left","pressed":true,"position":{"x":32768,"y":32768},"total":{"x":0,"y":0}}',
    );
    expect(texts).toContain(
      'kite-control pointerButton {"button":"left","pressed":false,"position":{"x":49151,"y":32768},"total":{"x":0,"y":0}}',
    );
    expect(texts).toContain(
      'kite-control pointerButton {"button":"right","pressed":true,"position":{"x":0,"y":0},"total":{"x":0,"y":0}}',
    );
    expect(texts.at(-1)).toBe('kite-control wheel {"x":0,"y":120}');
  });

  test("is locked by a click when the game wants it, then moves by running totals, and is let go", async () => {
    await play();
    await say({ type: "pointerMode", value: "locked" });
    await until(
      () => page.evaluate(() => window.page.events),
      (events) => JSON.stringify(events).includes('["pointer",{"mode":"locked","isLocked":false}]'),
    );
    await drain();
    await page.mouse.click(300, 200);
    await until(
      () => page.evaluate(() => document.pointerLockElement?.className),
      (name) => name === "kite-player",
    );
    await page.mouse.move(310, 195);
    await page.mouse.move(330, 195);
    await page.mouse.down();
    const texts = await gotUntil((all) => all.some((text) => text.includes("pressed")));
    const last = texts.find((text) => text.includes("pressed")) ?? "";
    expect(texts.some((text) => text.startsWith("kite-motion pointerMotion"))).toBe(true);
    expect(texts.some((text) => text.includes("pointerMove "))).toBe(false);
    expect(last).toContain('"button":"left","pressed":true,"position":null');
    const total = JSON.parse(last.slice(last.indexOf("{"))) as { total: { x: number; y: number } };
    expect(total.total).toEqual({ x: 30 * 16, y: -5 * 16 });
    await say({ type: "pointerMode", value: "absolute" });
    await until(
      () => page.evaluate(() => document.pointerLockElement === null),
      (isFree) => isFree,
    );
  });

  test("looks as the game says", async () => {
    await play();
    const cursor = (): Promise<string | undefined> =>
      page.evaluate(() => document.querySelector<HTMLElement>(".kite-player")?.style.cursor);
    await say({ type: "cursor", value: { type: "hidden" } });
    await until(cursor, (css) => css === "none");
    await say({ type: "cursor", value: { type: "named", value: "crosshair" } });
    await until(cursor, (css) => css === "crosshair");
    // An image is two pixels, red and half-transparent blue, pointing with the second.
    await bench.streamer.evaluate(() => {
      const rgba = new Uint8Array([255, 0, 0, 255, 0, 0, 255, 128]);
      const value = { width: 2, height: 1, hotspotX: 1, hotspotY: 0, rgba };
      window.streamer.send("kite-control", { type: "cursor", value: { type: "image", value } });
    });
    await until(cursor, (css) => /^url\("data:image\/png;base64,.+"\) 1 0, default$/.test(css ?? ""));
  });
});

describe("touch", () => {
  const phone = { hasTouch: true, isMobile: true, viewport: { width: 800, height: 450 } };
  const profile = { keyboard: true, mouse: "auto", gamepads: 4, keys: {} } as const;

  test("fingers are touches where the game takes them", async () => {
    await play({ input: { ...profile, touch: { mode: "direct" } } }, phone);
    await drain();
    await page.touchscreen.tap(400, 225);
    const touch = (phase: string): string =>
      `kite-control touch {"id":0,"phase":"${phase}","position":{"x":32768,"y":32768}}`;
    expect(await got(2)).toEqual([touch("start"), touch("end")]);
  });

  test("a tap clicks where the game takes a mouse", async () => {
    await play({ input: { ...profile, touch: { mode: "pointer" } } }, phone);
    await drain();
    await page.touchscreen.tap(400, 225);
    const texts = await got(3);
    expect(texts[0]).toBe('kite-motion pointerMove {"position":{"x":32768,"y":32768}}');
    expect(texts.filter((text) => text.includes("pointerButton"))).toHaveLength(2);
  });

  test("a pad is drawn where the manifest wants it, and its controls are gamepad, keys and motion", async () => {
    const place = (x: number) => ({ x, y: 0.5, size: 0.3 });
    const controls = [
      { kind: "look", speed: 2 },
      { kind: "button", label: "Fire", place: place(0.8), send: { key: "ControlLeft" } },
      { kind: "button", label: "Jump", place: place(0.6), send: { pad: 0 } },
      { kind: "stick", label: "Move", place: place(0.2), send: { pad: "left" } },
    ] as const;
    await play({ input: { ...profile, touch: { mode: "pad", controls } } }, phone);
    const announced = await got(1);
    expect(announced).toContain('kite-control padConnect {"pad":0}');
    await page.getByText("Fire").tap();
    await page.getByText("Jump").tap();
    expect(await got(4)).toEqual([
      'kite-control key {"code":29,"pressed":true}',
      'kite-control key {"code":29,"pressed":false}',
      'kite-control pad {"pad":0,"state":{"buttons":1,"axes":[0,0,0,0],"triggers":[0,0]}}',
      'kite-control pad {"pad":0,"state":{"buttons":0,"axes":[0,0,0,0],"triggers":[0,0]}}',
    ]);
    const stick = await page.getByLabel("Move", { exact: true }).boundingBox();
    if (stick === null) throw new Error("there is no stick");
    await page.touchscreen.tap(stick.x + stick.width / 2, stick.y + 2);
    const moved = await got(2);
    expect(moved[0]).toMatch(/^kite-motion pad .*"axes":\[0,-3\d{4},0,0\]/);
    expect(moved.some((text) => text.includes('"axes":[0,0,0,0]'))).toBe(true);
  });
});

describe("texts and sizes", () => {
  test("text is typed, and a new size of the window is told once it rests", async () => {
    await play();
    await drain();
    await page.evaluate(() => window.page.player?.text("héllo"));
    await page.setViewportSize({ width: 640, height: 480 });
    await page.setViewportSize({ width: 600, height: 400 });
    expect(await got(2, ["hello"])).toEqual([
      'kite-control text {"text":"héllo"}',
      'kite-control resize {"width":600,"height":400}',
    ]);
  });
});

describe("sound", () => {
  test("waits for a click where the browser wants one, then plays", async () => {
    session = makeSession(bench.server);
    const told: unknown[] = [];
    page = await (await bench.newContext()).newPage();
    await page.exposeFunction("tell", (name: string, event: unknown) => {
      if (name === "soundBlocked") told.push(event);
    });
    const options = { session: { id: session.session.id, token: session.token } };
    await page.goto(`${bench.server.origin}/player.html?play=${encodeURIComponent(JSON.stringify(options))}`);
    await until(
      () => told,
      (told) => told.length === 1 && told[0] === true,
    );
    await page.mouse.click(100, 100);
    await until(
      () => told,
      (told) => told.length === 2 && told[1] === false,
    );
  });
});

describe("gamepads", () => {
  test("are announced, polled, and rumble; a pad that is pulled is told", async () => {
    await play();
    await drain();
    // No browser lets a test plug in a pad, and this has to run where the kernel has no virtual ones.
    await page.evaluate(() => {
      const effects: unknown[] = [];
      const buttons = Array.from({ length: 17 }, () => ({ pressed: false, touched: false, value: 0 }));
      const vibrationActuator = {
        playEffect: (...effect: unknown[]) => Promise.resolve(effects.push(effect)),
        reset: () => Promise.resolve(effects.push("reset")),
      };
      const pad = { index: 2, connected: true, mapping: "standard", buttons, axes: [0, 0, 0, 0], vibrationActuator };
      Object.assign(window, { pad, effects });
      navigator.getGamepads = () => [null, null, pad as unknown as Gamepad, null];
      window.dispatchEvent(Object.assign(new Event("gamepadconnected"), { gamepad: pad }));
      buttons[7] = { pressed: true, touched: true, value: 0.5 };
      pad.axes[3] = -1;
    });
    expect(await got(2)).toEqual([
      'kite-control padConnect {"pad":0}',
      'kite-control pad {"pad":0,"state":{"buttons":128,"axes":[0,0,0,-32767],"triggers":[0,128]}}',
    ]);
    await say({ type: "rumble", pad: 0, strong: 65_535, weak: 0, durationMs: 200 });
    await say({ type: "rumble", pad: 0, strong: 0, weak: 0, durationMs: 0 });
    await until(
      () => page.evaluate(() => (window as unknown as { effects: unknown[] }).effects),
      (effects) =>
        JSON.stringify(effects) === '[["dual-rumble",{"duration":200,"strongMagnitude":1,"weakMagnitude":0}],"reset"]',
    );
    await page.evaluate(() => {
      const { pad } = window as unknown as { pad: unknown };
      window.dispatchEvent(Object.assign(new Event("gamepaddisconnected"), { gamepad: pad }));
    });
    expect(await got(1)).toEqual(['kite-control padDisconnect {"pad":0}']);
  });
});

describe("trouble", () => {
  const state = () => page.evaluate(() => window.page.player?.state);

  test.each([
    ["vanishes", () => bench.streamer.evaluate(() => window.streamer.vanish())],
    ["goes silent", () => bench.streamer.evaluate(() => window.streamer.mute(true))],
  ])("a streamer that %s is found again, with the old picture meanwhile", async (_, break_) => {
    await play();
    const peers = await bench.streamer.evaluate(() => window.streamer.peers());
    await break_();
    await until(
      () => page.evaluate(() => window.page.screens),
      (screens) => screens.includes("The connection was lost. Reconnecting …"),
    );
    await bench.streamer.evaluate(() => window.streamer.mute(false));
    await until(state, (state) => state?.name === "playing", 12_000);
    const frames = await page.evaluate(() => window.page.frames);
    await until(
      () => page.evaluate(() => window.page.frames),
      (now) => now > frames + 5,
    );
    expect(await bench.streamer.evaluate(() => window.streamer.peers())).toBeGreaterThan(peers);
  });

  test("a lost link interrupts nothing and is opened again", async () => {
    await play();
    expect(session.linksOpened).toBe(1);
    for (const link of session.links) link.terminate();
    await until(
      () => [session.linksOpened, session.links.size],
      ([opened, links]) => opened === 2 && links === 1,
    );
    expect(await page.evaluate(() => window.page.states.map(({ name }) => name))).not.toContain("reconnecting");
  });

  test("the end is told with the server's sentence", async () => {
    await play();
    await say({ type: "ended", reason: "game_exited" });
    const at = new Date().toISOString();
    session.become({ state: "ended", reason: "game_exited", party: "game", at }, "The game was closed.");
    await until(state, (state) => state?.name === "ended");
    expect(await page.locator(".kite-screen").textContent()).toBe("Game closedThe game was closed.");
  });

  test("a wrong token ends it with the reason", async () => {
    await open();
    session = makeSession(bench.server);
    await page.evaluate((id) => window.page.play({ session: { id, token: "wrong" } }), session.session.id);
    await until(state, (state) => state?.name === "ended");
    expect(await state()).toMatchObject({ reason: "token_unknown" });
  });

  test("an answer that is nonsense and messages that are nonsense are told, and survived", async () => {
    await play();
    await bench.streamer.evaluate(() => {
      window.streamer.sendBytes("kite-control", [3, 9]);
      window.streamer.sendBytes("kite-control", [200, 1, 2]);
      window.streamer.sendBytes("kite-motion", []);
    });
    await until(
      () => page.evaluate(() => window.page.errors),
      (errors) => errors.length >= 2,
    );
    expect(await page.evaluate(() => window.page.errors.sort())).toEqual([
      "Cursor has no choice 9",
      "the message is empty",
    ]);
    expect(await state()).toMatchObject({ name: "playing" });
    const { answer } = bench.server;
    bench.server.answer = () => Promise.resolve("nonsense");
    await bench.streamer.evaluate(() => window.streamer.vanish());
    await until(
      () => page.evaluate(() => window.page.errors),
      (errors) => errors.some((error) => error.startsWith("the answer cannot be used")),
    );
    bench.server.answer = answer;
    await until(state, (state) => state?.name === "playing", 15_000);
  });
});
