//! Firefox has no way to read a track's frames in a page: it shows `<video>`, and without its H.264 plugin VP8.

import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Bench, makeSession, startBench, until } from "./browser.js";

let bench: Bench;
let firefox: Browser;
let page: Page;

beforeAll(async () => {
  bench = await startBench();
  firefox = await puppeteer.launch({
    browser: "firefox",
    executablePath: process.env["KITE_FIREFOX"] ?? "/usr/bin/firefox-esr",
    headless: true,
    // The plugin is downloaded after the first start; a fresh Firefox has none.
    extraPrefsFirefox: { "media.gmp-manager.updateEnabled": false, "media.gmp-gmpopenh264.enabled": false },
    defaultViewport: { width: 800, height: 450 },
  });
  page = await firefox.newPage();
});
afterAll(async () => {
  await firefox?.close();
  await bench?.close();
});

test("plays, shows moving pictures, sends input, and measures", async () => {
  await page.goto(`${bench.server.origin}/player.html`);
  const session = makeSession(bench.server);
  const options = { session: { id: session.session.id, token: session.token } };
  await page.evaluate((options) => window.page.play(options), options);
  await until(
    () => page.evaluate(() => [window.page.player?.state.name, window.page.frames, window.page.errors] as const),
    ([state, frames]) => state === "playing" && frames > 5,
    25_000,
  );
  await bench.streamer.evaluate(() => window.streamer.take());
  await page.keyboard.press("KeyW");
  await page.mouse.move(400, 225);
  const heard = await until(
    () => bench.streamer.evaluate(() => window.streamer.take().map(({ message }) => message)),
    (messages) => messages.length >= 1,
  );
  expect(heard[0]).toMatchObject({ type: "key", code: 17, pressed: true });
  const statistics = await until(
    () => page.evaluate(() => window.page.player?.statistics()),
    (statistics) => (statistics?.framesPerSecond ?? 0) > 5 && statistics?.roundTripMs !== null,
  );
  expect(statistics).toMatchObject({ picture: "video", codec: "VP8", width: 640, height: 360 });
  // The old picture stays while the connection is replaced.
  await bench.streamer.evaluate(() => window.streamer.vanish());
  await until(
    () => page.evaluate(() => window.page.states.map(({ name }) => name)),
    (states) => states.join().includes("reconnecting,playing"),
    25_000,
  );
  const frames = await page.evaluate(() => window.page.frames);
  await until(
    () => page.evaluate(() => [window.page.frames, document.querySelectorAll("video").length] as const),
    ([now, videos]) => now > frames + 5 && videos === 1,
  );
});
