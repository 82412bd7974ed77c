/** Every way in which a session ends has its reason, ends nothing else and leaves nothing. */

import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import type { Browser } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, probePackage, startKite, WIDE_LIMITS } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { holdings, leaks } from "../lib/leaks.ts";
import type { Holdings } from "../lib/leaks.ts";
import { cleanSlate, ended, leave, openPlay, playing } from "../lib/play.ts";
import { freePort, until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
let empty: Holdings;
const directory = newDirectory("kite-spec-");

/** A package whose program is a shell script that runs the probe for a moment and then does `misbehaviour`. */
function misbehaving(name: string, misbehaviour: string, more = ""): void {
  const target = probePackage("probe-wayland", join(directory, ".parts"));
  const place = join(directory, name);
  mkdirSync(place, { recursive: true });
  writeFileSync(
    join(place, "kite.toml"),
    `name = "${name}"\ntitle = "${name}"\nsummary = "A game that misbehaves."\ndisplay = "wayland"\n` +
      `[launch]\ncommand = ["<base>/run"]\n[limits]\nmemory_mb = 256\ncpus = 1.0\nprocesses = 16\n${more}`,
  );
  writeFileSync(join(place, "run"), `#!/bin/sh\n${misbehaviour}\n`);
  chmodSync(join(place, "run"), 0o755);
  writeFileSync(join(place, "probe-wayland"), readFileSync(join(target, "probe-wayland")), { mode: 0o755 });
}

const BESIDE = '"$(dirname "$0")/probe-wayland" & probe=$!; sleep 3;';

before(async () => {
  probePackage("probe-x11", directory);
  misbehaving("exits", `${BESIDE} kill $probe; exit 0`);
  misbehaving("crashes", `${BESIDE} kill $probe; kill -SEGV $$`);
  misbehaving("fails", "exit 7");
  misbehaving("eats-memory", `${BESIDE} exec tail /dev/zero`);
  misbehaving("shows-nothing", "exec sleep 1000", "[session]\nstart_timeout_s = 5\n");
  rmSync(join(directory, ".parts"), { recursive: true });
  kite = await startKite({
    games: [directory],
    sessions: 4,
    config: `${WIDE_LIMITS}connect_timeout_s = 5\n`,
  });
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  await cleanSlate(browser, kite);
  empty = holdings(kite.program.pid, kite.data);
});

async function nothingLeft(timeoutMs = 15_000): Promise<void> {
  const now = (): string[] => leaks(empty, holdings(kite.program.pid, kite.data));
  await until("everything is given back", () => now().length === 0, timeoutMs).catch(() => assert.deepEqual(now(), []));
}

for (const [app, reason] of [
  ["exits", "game_exited"],
  ["crashes", "game_crashed"],
  ["fails", "game_crashed"],
  ["eats-memory", "out_of_memory"],
  ["shows-nothing", "start_timeout"],
] as const) {
  test(`a game that ${app.replace("-", " ")} ends its session with ${reason}, and no other session`, async () => {
    const neighbour = await openPlay(browser, kite, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
    await playing(neighbour);
    const page = await openPlay(browser, kite, app, { width: 640, height: 360, framesPerSecond: 30 });
    const end = await ended(page, 40_000);
    assert.equal(end.reason, reason, end.text);
    assert.equal(await neighbour.locator('[data-state="playing"]').count(), 1, "the neighbour plays on");
    await page.context().close();
    await leave(neighbour);
    await nothingLeft();
  });
}

/** Process ids of the streamers of this installation. */
function streamers(): number[] {
  return holdings(kite.program.pid, kite.data)
    .processes.filter((line) => line.endsWith(" kite-streamer"))
    .map((line) => Number(line.split(" ")[0]));
}

test("a killed streamer ends its session as our fault, and leaves nothing", async () => {
  const page = await openPlay(browser, kite, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
  await playing(page);
  const [streamer] = streamers();
  assert.ok(streamer !== undefined);
  process.kill(streamer, "SIGKILL");
  const end = await ended(page, 20_000);
  assert.equal(end.reason, "streamer_failed", end.text);
  await page.context().close();
  await nothingLeft();
});

test("a closed tab ends its session after the grace, and leaves nothing", async () => {
  const page = await openPlay(browser, kite, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
  await playing(page);
  assert.equal(streamers().length, 1);
  await page.context().close();
  await nothingLeft(20_000);
});

test("a game that hangs goes on showing its last picture, and the player can leave", async () => {
  const page = await openPlay(browser, kite, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
  await playing(page);
  const probe = holdings(kite.program.pid, kite.data).processes.find((line) => line.endsWith(" probe-x11"));
  process.kill(Number(probe?.split(" ")[0]), "SIGSTOP");
  await page.waitForTimeout(3000);
  assert.equal(await page.locator('[data-state="playing"]').count(), 1);
  await page.evaluate(() => (window as unknown as { kitePlayer: { leave(): void } }).kitePlayer.leave());
  assert.equal((await ended(page)).reason, "player_left");
  await page.context().close();
  await nothingLeft();
});

test("a session for which no port is free ends as our fault, and the one that has it plays on", async () => {
  const port = await freePort();
  const small = await startKite({ games: [directory], sessions: 2, mediaPorts: [port, port] });
  try {
    const first = await openPlay(browser, small, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
    await playing(first);
    const second = await openPlay(browser, small, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
    const end = await ended(second, 20_000);
    assert.equal(end.reason, "network_failed", end.text);
    assert.equal(await first.locator('[data-state="playing"]').count(), 1);
    await second.context().close();
    await leave(first);
  } finally {
    await small.stop();
  }
});
