/** The portal's word on saves: a choice where there are several, a way out where one is in use, and a page of all of them. */

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { cleanSlate, leave, openPlay, playing } from "../lib/play.ts";
import type { PlayOptions } from "../lib/play.ts";
import { until } from "../lib/programs.ts";
import { answer, archiveOf, ask, begin, finish, newPlayer, over, push, scripted, untar, versions } from "../lib/saves.ts";
import type { Server, Version } from "../lib/saves.ts";

/** A game whose save gets one more line at each play: the lines tell which plays a version comes from. */
const DIARY = 'mkdir -p "$HOME/.diary"; cat /proc/sys/kernel/random/uuid >> "$HOME/.diary/lines"';
const DIARY_FILE = "home/.diary/lines";
const SAVES = '[saves]\npaths = ["<home>/.diary/**"]\n';
const SMALL = { width: 640, height: 360, framesPerSecond: 30 };
const WINDOW = { width: 1280, height: 720 };
const PHONE = { width: 390, height: 844 };

let kite: Kite;
let browser: Browser;
let server: Server;
const directory = newDirectory("kite-spec-");
const storage = join(directory, "data");

before(async () => {
  const none = join(directory, "none");
  mkdirSync(none, { mode: 0o755 });
  kite = await startKite({ games: [none], sessions: 4, storage });
  server = { base: kite.base, storage };
  push(server, scripted(directory, "diary", DIARY, SAVES));
  push(server, scripted(directory, "branching", DIARY, `${SAVES}concurrent = "branch"\n`));
  browser = await launchChromium();
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** What the browser of that player keeps. */
async function keptOf(player: string): Promise<NonNullable<PlayOptions["kept"]>> {
  const { id } = await answer<{ id: string }>(await ask(server, player, "GET", "/v1/players/me"));
  const localStorage = [{ name: `kite.player.${kite.base}`, value: JSON.stringify({ player: id, token: player }) }];
  return { cookies: [], origins: [{ origin: kite.base, localStorage }] };
}

/** A page of the portal in the browser of that player. */
async function openPortal(player: string, path: string): Promise<Page> {
  const context = await browser.newContext({ viewport: WINDOW, storageState: await keptOf(player) });
  const page = await context.newPage();
  await page.goto(kite.base + path);
  return page;
}

async function playAs(player: string, app: string): Promise<Page> {
  return openPlay(browser, kite, app, { ...SMALL, viewport: WINDOW, kept: await keptOf(player) });
}

/** Keeps pictures of the page for people, as in a window and on a phone, where `KITE_E2E_PICTURES` names a directory for them. */
async function picture(page: Page, name: string): Promise<void> {
  const pictures = process.env["KITE_E2E_PICTURES"];
  if (pictures === undefined) return;
  for (const [where, viewport] of [["phone", PHONE], ["window", WINDOW]] as const) {
    await page.setViewportSize(viewport);
    await page.screenshot({ path: join(pictures, `${name}-${where}.jpg`), type: "jpeg", quality: 88 });
  }
}

const linesIn = (file: Uint8Array | undefined): string[] => Buffer.from(file ?? []).toString().trim().split("\n");

async function linesOf(player: string, version: Version): Promise<string[]> {
  return linesIn(untar(await archiveOf(server, player, version.id)).get(DIARY_FILE));
}

/** The diary of the only instance that runs. */
function linesInPlay(): string[] {
  const instances = join(storage, "instances");
  const names = readdirSync(instances, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("/.diary/lines"));
  assert.equal(names.length, 1, names.join(", "));
  return linesIn(readFileSync(join(instances, names[0] ?? "")));
}

/** The newest versions, once there are so many. */
async function newest(player: string, app: string, count: number): Promise<Version[]> {
  return until(`${count} newest versions`, async () => {
    const found = (await versions(server, player, app)).filter((version) => version.is_newest);
    return found.length === count ? found : undefined;
  });
}

/** Two plays at once, which end in a version each. */
async function branch(player: string): Promise<Version[]> {
  const both = [await begin(server, player, "branching"), await begin(server, player, "branching")];
  for (const session of both) await finish(server, session);
  return newest(player, "branching", 2);
}

test("of several newest saves the player chooses one, plays with it, and the others stay", async () => {
  const player = await newPlayer(server);
  await finish(server, await begin(server, player, "branching"));
  const ends = await branch(player);
  const chosen = ends[1];
  assert.ok(chosen !== undefined);
  const page = await playAs(player, "branching");
  await page.getByRole("heading", { name: "Which save do you go on with?" }).waitFor();
  assert.equal(await page.locator("[data-state]").getAttribute("data-reason"), "save_conflict");
  const rows = page.getByRole("listitem");
  await until("a row each", async () => (await rows.count()) === 2);
  await picture(page, "choice");
  for (const row of await rows.all()) assert.match(await row.innerText(), /when the game ended · under a minute of play/);
  await page.locator(`[data-version="${chosen.id}"]`).getByRole("button", { name: "Play with this" }).click();
  await playing(page);
  assert.deepEqual(linesInPlay().slice(0, 2), await linesOf(player, chosen));
  await leave(page);
  const [joined] = await newest(player, "branching", 1);
  assert.ok(joined !== undefined);
  assert.deepEqual([...joined.parents].toSorted(), ends.map(({ id }) => id).toSorted());
  assert.deepEqual((await linesOf(player, joined)).slice(0, 2), await linesOf(player, chosen));
  assert.equal((await versions(server, player, "branching")).length, 4);
});

test("a game that runs elsewhere is ended there, and goes on here with what it saved", async () => {
  const player = await newPlayer(server);
  const elsewhere = await begin(server, player, "diary");
  const page = await playAs(player, "diary");
  await page.getByText(/since .* \(under a minute\)/).waitFor();
  assert.equal(await page.locator("[data-state]").getAttribute("data-reason"), "save_in_use");
  await picture(page, "in-use");
  await page.getByRole("button", { name: "End it there and play here" }).click();
  await page.getByText(/The other play is being/).waitFor();
  await picture(page, "take-over");
  await playing(page);
  assert.equal(await over(server, elsewhere), "player_left");
  const first = (await versions(server, player, "diary")).at(-1);
  assert.ok(first !== undefined);
  assert.equal(linesInPlay().length, 2);
  assert.deepEqual(linesInPlay().slice(0, 1), await linesOf(player, first));
  await leave(page);
});

test("who leaves and plays again at once is asked nothing, and goes on with what he saved", async () => {
  const player = await newPlayer(server);
  const page = await playAs(player, "diary");
  await playing(page);
  await page.getByRole("button", { name: "Leave the game" }).click();
  await page.getByRole("link", { name: "diary" }).click();
  await page.getByRole("button", { name: "Play" }).click();
  await playing(page);
  assert.equal(linesInPlay().length, 2);
  await leave(page);
});

test("saves are downloaded, gone back to, brought and deleted on their page", async () => {
  const player = await newPlayer(server);
  for (let play = 1; play <= 2; play++) await finish(server, await begin(server, player, "diary"));
  await branch(player);
  const [, first] = await versions(server, player, "diary");
  assert.ok(first !== undefined);
  const page = await openPortal(player, "/play/diary");
  page.on("dialog", (dialog) => dialog.accept());
  await picture(page, "game");
  await page.getByRole("link", { name: "Your saves of this game" }).click();
  await page.getByRole("link", { name: "All your saves" }).click();
  const diary = page.locator('[data-app="diary"]');
  const rows = diary.getByRole("listitem");
  await page.locator('[data-app="branching"]').waitFor();
  await picture(page, "saves");

  const downloading = page.waitForEvent("download");
  await page.locator(`[data-version="${first.id}"]`).getByRole("button", { name: "Download" }).click();
  const archive = readFileSync(await (await downloading).path());
  assert.deepEqual(new Uint8Array(archive), await archiveOf(server, player, first.id));
  assert.match((await downloading).suggestedFilename(), /^diary-20.*\.tar$/);
  await picture(page, "downloaded");

  await page.locator(`[data-version="${first.id}"]`).getByRole("button", { name: "Go back to this" }).click();
  await page.getByText(/^The next play begins with the save of/).waitFor();
  assert.equal(await rows.count(), 3);
  const [chosen] = await newest(player, "diary", 1);
  assert.ok(chosen !== undefined);
  assert.deepEqual([chosen.kind, await linesOf(player, chosen)], ["chosen", await linesOf(player, first)]);

  const file = { name: "diary.tar", mimeType: "application/x-tar" };
  await diary.getByLabel("Bring a save").setInputFiles({ ...file, buffer: Buffer.alloc(700, 7) });
  await page.getByText(/Send a tar archive with the top directories/).waitFor();
  await picture(page, "no-archive");
  await diary.getByLabel("Bring a save").setInputFiles({ ...file, buffer: archive });
  await page.getByText("“diary.tar” was brought.").waitFor();
  assert.equal((await versions(server, player, "diary")).length, 4);

  await diary.getByRole("button", { name: "Delete all saves of this game" }).click();
  await page.getByText("The saves are deleted.").waitFor();
  assert.equal(await diary.count(), 0);
  assert.deepEqual(await versions(server, player, "diary"), []);
  assert.equal((await versions(server, player, "branching")).length, 2);
  await page.context().close();
});

test("the page of saves has an address that can be opened and reloaded", async () => {
  const player = await newPlayer(server);
  await finish(server, await begin(server, player, "diary"));
  const page = await openPortal(player, "/saves?app=diary");
  const shown = (): Promise<void> => page.locator('[data-app="diary"]').getByRole("listitem").waitFor({ timeout: 10_000 });
  await shown();
  await page.reload();
  await shown();
  await page.context().close();
});
