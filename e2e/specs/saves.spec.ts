/** A real game's save, made by its own menu, survives its machine, its streamer and the whole service. */

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, ROOT, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { holdings } from "../lib/leaks.ts";
import { difference } from "../lib/picture.ts";
import type { Picture } from "../lib/picture.ts";
import { changed, cleanSlate, ended, leave, look, openPlay, playing, restlessness } from "../lib/play.ts";
import type { PlayOptions } from "../lib/play.ts";
import { until } from "../lib/programs.ts";
import { push, savedFile, versions } from "../lib/saves.ts";
import type { Server } from "../lib/saves.ts";

const SAVE_FILE = /savegames\/.*\.dsg$/;
/** The shortest that a manifest can ask for. */
const CHECKPOINT_S = 10;
/** Pictures of the same place differ by less (0.1 measured), those of two places by twice as much and more (12 measured). */
const SAME_PLACE = 3;

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");
const storage = join(directory, "data");
const none = join(directory, "none");
/** Runtime directories of installations that were killed and could not remove them. */
const left: string[] = [];

const server = (): Server => ({ base: kite.base, storage });

/** A copy of the game that makes checkpoints as often as it can. */
function hasty(): string {
  const place = join(directory, "doom-hasty");
  cpSync(join(ROOT, "games", "chocolate-doom"), place, { recursive: true });
  const manifest = readFileSync(join(place, "kite.toml"), "utf8");
  const changed = manifest
    .replace('name = "chocolate-doom"', 'name = "doom-hasty"')
    .replace("[saves]\n", `[saves]\ncheckpoint_s = ${CHECKPOINT_S}\n`);
  writeFileSync(join(place, "kite.toml"), changed);
  return place;
}

async function up(port?: number): Promise<Kite> {
  return startKite({ games: [none], sessions: 4, storage, ...(port === undefined ? {} : { port }) });
}

/** Starts it again as what the browser takes for the same server. */
async function upAgain(): Promise<void> {
  kite = await up(Number(new URL(kite.base).port));
}

before(async () => {
  mkdirSync(none, { mode: 0o755 });
  kite = await up();
  browser = await launchChromium();
  push(server(), join(ROOT, "games", "chocolate-doom"));
  push(server(), hasty());
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
  for (const path of [directory, ...left]) rmSync(path, { recursive: true, force: true });
});

/** Presses a key and waits until the picture has changed by more than `threshold`. */
async function press(page: Page, key: string, threshold: number): Promise<Picture> {
  const reference = await look(page);
  await page.keyboard.press(key);
  return changed(page, reference, threshold);
}

/** From the title into the first level, and there to another place: what is saved is none of what a new game begins with. */
async function playOn(page: Page): Promise<void> {
  await playing(page);
  await press(page, "Enter", 4);
  await press(page, "Enter", 2);
  await press(page, "Enter", 12);
  // The level's picture melts in for about a second.
  await page.waitForTimeout(2500);
  const start = await look(page);
  for (const [key, holdMs] of [["ArrowRight", 700], ["ArrowUp", 1000]] as const) {
    await page.keyboard.down(key);
    await page.waitForTimeout(holdMs);
    await page.keyboard.up(key);
  }
  // He slides on for a moment, and longer on a machine that has much to do.
  await until("the player stands still", async () => (await restlessness(page, 500)) < SAME_PLACE / 2);
  assert.ok(difference(start, await look(page)) > SAME_PLACE * 2, "the player went somewhere else");
}

/** Saves by the game's own menu into its first slot; the picture of the place. */
async function saveInGame(page: Page, name: string): Promise<Picture> {
  const place = await look(page);
  await press(page, "F2", 2);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(300);
  await page.keyboard.type(name, { delay: 100 });
  await page.waitForTimeout(200);
  const menu = await look(page);
  await page.keyboard.press("Enter");
  await changed(page, menu, 2);
  return place;
}

/** The player of the page's browser, as the page keeps him. */
async function playerOf(page: Page): Promise<{ token: string; kept: NonNullable<PlayOptions["kept"]> }> {
  const kept = await page.context().storageState();
  const entry = kept.origins.flatMap((origin) => origin.localStorage).find(({ name }) => name === `kite.player.${kite.base}`);
  return { token: (JSON.parse(entry?.value ?? "{}") as { token: string }).token, kept };
}

/** Files of the game's saves in the homes of instances that run now. */
function filesOfInstances(): string[] {
  const instances = join(storage, "instances");
  const names = readdirSync(instances, { recursive: true, encoding: "utf8" });
  return names.filter((name) => SAVE_FILE.test(name)).map((name) => join(instances, name));
}

/** Keeps a picture of the page for people, where `KITE_E2E_PICTURES` names a directory for them. */
async function picture(page: Page, name: string): Promise<void> {
  const pictures = process.env["KITE_E2E_PICTURES"];
  if (pictures !== undefined) await page.screenshot({ path: join(pictures, `${name}.jpg`), type: "jpeg", quality: 88 });
}

/** Starts the game as the same player, loads what is in the first slot by the game's own menu; that picture. */
async function loadInGame(page: Page): Promise<Picture> {
  await playing(page);
  await page.waitForTimeout(500);
  await press(page, "F3", 4);
  await picture(page, "load-menu");
  await press(page, "Enter", 8);
  await page.waitForTimeout(2500);
  return look(page);
}

/** Plays again with what the browser kept. A session that broke may not have ended yet. */
async function again(app: string, options: PlayOptions): Promise<Page> {
  return until(
    "a play with the same save",
    async () => {
      const page = await openPlay(browser, kite, app, options);
      await page.locator('[data-state="playing"], [data-state="refused"], [data-state="ended"]').waitFor({ timeout: 30_000 });
      if ((await page.locator('[data-reason="save_in_use"]').count()) === 0) return page;
      await page.context().close();
      return undefined;
    },
    30_000,
    500,
  );
}

/** The service is killed as by a broken machine: nothing is written, said or removed any more. */
async function killService(): Promise<void> {
  const { program, data } = kite;
  process.kill(program.pid, "SIGKILL");
  await until("the killed service is gone", () => program.exitCode() !== null);
  left.push(data);
}

test("a game that was saved on one machine is loaded on another, which has seen neither", { timeout: 180_000 }, async () => {
  const page = await openPlay(browser, kite, "chocolate-doom");
  await playOn(page);
  const place = await saveInGame(page, "kite");
  const { token, kept } = await playerOf(page);
  await leave(page);
  await cleanSlate(browser, kite);
  // Of the end, or of the moment in which the player was lost: leaving is both, and what did not change makes no second version.
  const { version, content } = await savedFile(server(), token, "chocolate-doom", SAVE_FILE);
  assert.ok(version.settled);
  assert.equal(Buffer.from(content.subarray(0, 4)).toString(), "KITE", "the name that was typed");

  await kite.stop();
  // What a node has of its own; the database, the content store and the keys are the service's.
  for (const name of ["instances", "volume", "logs"]) rmSync(join(storage, name), { recursive: true });
  await upAgain();
  assert.deepEqual(filesOfInstances(), []);

  const there = await openPlay(browser, kite, "chocolate-doom", { kept });
  await playing(there);
  const [file, ...others] = filesOfInstances();
  assert.ok(file !== undefined && others.length === 0, "the save is in the new instance's home");
  assert.deepEqual(readFileSync(file), Buffer.from(content));
  const loaded = await loadInGame(there);
  await picture(there, "loaded");
  assert.ok(difference(place, loaded) < SAME_PLACE, `${difference(place, loaded)}: the place that was saved`);
  await leave(there);
});

test("a player who is lost has his save before the session gives him up", { timeout: 180_000 }, async () => {
  const page = await openPlay(browser, kite, "chocolate-doom");
  await playOn(page);
  await saveInGame(page, "lost");
  const { token, kept } = await playerOf(page);
  await page.context().close();
  // Checkpoints come once a minute there, and the session waits for the player's return.
  const { version, content } = await savedFile(server(), token, "chocolate-doom", SAVE_FILE, 10_000);
  assert.deepEqual([version.kind, Buffer.from(content.subarray(0, 4)).toString()], ["checkpoint", "LOST"]);
  assert.equal(filesOfInstances().length, 1, "the game runs on");

  const second = await openPlay(browser, kite, "chocolate-doom", { kept });
  assert.equal((await ended(second)).reason, "save_in_use", "another tab is no return, and would save over it");
  await second.context().close();
  const there = await again("chocolate-doom", { kept });
  await playing(there);
  assert.equal((await versions(server(), token, "chocolate-doom"))[0]?.is_newest, true);
  await leave(there);
});

test("a streamer that is killed in play costs nothing that the game had saved", { timeout: 180_000 }, async () => {
  const page = await openPlay(browser, kite, "chocolate-doom");
  await playOn(page);
  const place = await saveInGame(page, "streamer");
  const { token, kept } = await playerOf(page);
  const [streamer] = holdings(kite.program.pid, kite.data).processes.filter((line) => line.endsWith(" kite-streamer"));
  process.kill(Number(streamer?.split(" ")[0]), "SIGKILL");
  assert.equal((await ended(page, 20_000)).reason, "streamer_failed");
  await page.context().close();
  const { content } = await savedFile(server(), token, "chocolate-doom", SAVE_FILE);
  assert.equal(Buffer.from(content.subarray(0, 8)).toString(), "STREAMER");

  const there = await again("chocolate-doom", { kept });
  assert.ok(difference(place, await loadInGame(there)) < SAME_PLACE, "the place that was saved");
  await leave(there);
});

test("a service that is killed in play costs at most what came after the last checkpoint", { timeout: 180_000 }, async () => {
  const page = await openPlay(browser, kite, "doom-hasty");
  await playOn(page);
  const place = await saveInGame(page, "service");
  const { token, kept } = await playerOf(page);
  const savedMs = Date.now();
  const { version, content } = await savedFile(server(), token, "doom-hasty", SAVE_FILE);
  const tookMs = Date.now() - savedMs;
  // A checkpoint waits for a moment in which the game writes nothing, and is written and told.
  assert.ok(tookMs < (CHECKPOINT_S + 5) * 1000, `the checkpoint came ${tookMs} ms after the save`);
  assert.equal(version.kind, "checkpoint");
  await killService();
  await page.context().close();
  await upAgain();
  const [newest] = await versions(server(), token, "doom-hasty");
  assert.deepEqual([newest?.id, newest?.is_newest], [version.id, true]);

  const there = await again("doom-hasty", { kept });
  await playing(there);
  const [file] = filesOfInstances();
  assert.ok(file !== undefined, "the save is in the new instance's home");
  assert.deepEqual(readFileSync(file), Buffer.from(content));
  assert.ok(difference(place, await loadInGame(there)) < SAME_PLACE, "the place that was saved");
  await leave(there);
});
