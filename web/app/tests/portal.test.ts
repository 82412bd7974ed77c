import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { build } from "vite";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Bench, startBench, until } from "../../sdk/tests/dom/browser.ts";
import { problem } from "../../sdk/tests/dom/problem.ts";
import { TestSession } from "../../sdk/tests/dom/server.ts";
import { APPS } from "./apps.ts";

let bench: Bench;
let page: Page;
let built: string;
let complaints: string[];

const path = (relative: string): string => fileURLToPath(new URL(relative, import.meta.url));

beforeAll(async () => {
  built = await mkdtemp(join(tmpdir(), "kite-app-"));
  await build({ root: path(".."), logLevel: "error", build: { outDir: built, emptyOutDir: true } });
  bench = await startBench([built, path("../../../games")]);
});
afterAll(async () => {
  await bench?.close();
  await rm(built, { recursive: true, force: true });
});
beforeEach(async () => {
  bench.server.apps = APPS;
  bench.server.saves.versions = [];
  bench.server.refusals.length = 0;
  await open({ width: 1280, height: 720 });
});
afterEach(async () => {
  await page.context().close();
});

async function open(viewport: { width: number; height: number }, isPhone = false): Promise<void> {
  await page?.context().close();
  const context = await bench.newContext({ viewport, hasTouch: isPhone, isMobile: isPhone });
  page = await context.newPage();
  complaints = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
}

const go = (address: string): Promise<unknown> => page.goto(bench.server.origin + address);
const playState = (): Promise<string | null> => page.locator("[data-state]").getAttribute("data-state");
const isPlaying = (): Promise<unknown> => until(playState, (state) => state === "playing", 15_000);

/** Screenshots for a person's eye, where one wants them. */
async function look(name: string): Promise<void> {
  const directory = process.env["KITE_SCREENSHOTS"];
  if (directory !== undefined) await page.screenshot({ path: join(directory, `${name}.png`) });
}

describe("the catalogue", () => {
  test("shows every game with its picture, and without one something in its place", async () => {
    await go("/");
    await page.getByRole("heading", { name: "Doom: FreeDM" }).waitFor();
    const pictures = await until(
      () =>
        page.locator("img.picture").evaluateAll((all) => all.map((each) => (each as HTMLImageElement).naturalWidth)),
      (widths) => widths.every((width) => width > 0),
    );
    expect(pictures).toHaveLength(3);
    expect(await page.locator(".picture.drawn").textContent()).toBe("P");
    expect(complaints).toEqual([]);
    await look("catalogue");
  });

  test.each([
    [390, 844],
    [820, 1180],
    [1920, 1080],
  ])("fits %d x %d", async (width, height) => {
    await open({ width, height }, width < 500);
    await go("/");
    await page.getByRole("heading", { name: "Doom: FreeDM" }).waitFor();
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    await look(`catalogue-${width}`);
  });

  test("says so when there are no games", async () => {
    bench.server.apps = [];
    await go("/");
    await page.getByRole("heading", { name: "No games yet" }).waitFor();
  });

  test("says so when the server cannot be reached, and tries again when asked", async () => {
    await page.route("**/v1/apps", (route) => route.abort());
    await go("/");
    await page.getByText("The server cannot be reached.").waitFor();
    await look("unreachable");
    await page.unroute("**/v1/apps");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByRole("heading", { name: "Doom: FreeDM" }).waitFor();
  });

  test("can be used by keyboard alone", async () => {
    await go("/");
    await page.getByRole("heading", { name: "Doom: FreeDM" }).waitFor();
    // The brand, "Your plays", "Your saves", the first game.
    for (let tab = 0; tab < 4; tab++) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Play" }).waitFor();
    expect(new URL(page.url()).pathname).toBe("/play/armagetronad");
    await page.goBack();
    await page.getByRole("heading", { name: "Games" }).waitFor();
  });
});

describe("a game's page", () => {
  test("lets choose what the app allows, and remembers it", async () => {
    await go("/play/chocolate-doom");
    await page.getByLabel("Resolution").selectOption("1080p");
    await page.getByLabel("Frame rate").selectOption("30 frames/s");
    await look("game");
    const before = bench.server.wishes.length;
    await page.getByRole("button", { name: "Play" }).click();
    await isPlaying();
    const spec = { width: 1920, height: 1080, frames_per_second: 30 };
    expect(bench.server.wishes.slice(before)).toEqual([{ app: "chocolate-doom", spec, resizable: true }]);
    await go("/play/chocolate-doom");
    expect(
      await page.getByLabel("Resolution").evaluate((each) => (each as HTMLSelectElement).selectedOptions[0]?.label),
    ).toBe("1080p");
  });

  test("of an unknown game says so", async () => {
    await go("/play/nothing");
    await page.getByRole("heading", { name: "There is no such game" }).waitFor();
    await go("/no/such/page");
    await page.getByRole("heading", { name: "There is nothing here" }).waitFor();
  });
});

describe("a play", () => {
  const start = "/play/chocolate-doom?autostart=1&width=1280&height=720&fps=60";

  test("starts at once where the address says so, at that size", async () => {
    const before = bench.server.wishes.length;
    await go(start);
    await isPlaying();
    const spec = { width: 1280, height: 720, frames_per_second: 60 };
    expect(bench.server.wishes.slice(before)).toEqual([{ app: "chocolate-doom", spec, resizable: false }]);
    await until(
      () => page.evaluate(() => window.kitePlayer?.statistics().framesPerSecond ?? 0),
      (rate) => rate > 5,
    );
    expect(complaints).toEqual([]);
  });

  test("has a bar that hides itself, comes back, and switches sound and statistics", async () => {
    await go(start);
    await isPlaying();
    await look("play");
    const bar = page.getByRole("toolbar", { name: "Game" });
    const opacity = (): Promise<string> => bar.evaluate((each) => getComputedStyle(each).opacity);
    await page.mouse.move(640, 400);
    await until(opacity, (opacity) => opacity === "0");
    await page.mouse.move(640, 20);
    await until(opacity, (opacity) => opacity === "1");
    await page.getByRole("button", { name: "Statistics" }).click();
    await page.getByText("input to photon").waitFor();
    await page.waitForTimeout(1_200);
    await look("statistics");
    await page.getByRole("button", { name: "Sound" }).click();
    expect(await page.evaluate(() => window.kitePlayer?.muted)).toBe(true);
  });

  test("can be left: the session ends, and the catalogue is there", async () => {
    await go(start);
    await isPlaying();
    const session = [...bench.server.sessions.values()].at(-1);
    await page.getByRole("button", { name: "Leave the game" }).click();
    await page.getByRole("heading", { name: "Games" }).waitFor();
    await until(
      () => session?.session.state.state,
      (state) => state === "ended",
    );
  });

  test("survives a reload: the same session is joined again", async () => {
    await go(start);
    await isPlaying();
    const before = bench.server.wishes.length;
    await page.reload();
    await isPlaying();
    expect(bench.server.wishes).toHaveLength(before);
  });

  test("ends with the reason, and can be played again", async () => {
    await go(start);
    await isPlaying();
    const session = [...bench.server.sessions.values()].at(-1);
    const at = new Date().toISOString();
    session?.become({ state: "ended", reason: "game_crashed", party: "game", at }, "The game crashed. Play again.");
    await page.getByRole("heading", { name: "The game crashed" }).waitFor();
    await look("ended");
    expect(await page.locator("[data-state]").getAttribute("data-reason")).toBe("game_crashed");
    await page.getByRole("button", { name: "Play again" }).click();
    await isPlaying();
  });

  test("that is refused says why, and is tried again when asked", async () => {
    const detail = "All 2 places are taken.";
    const remedy = "Wait until somebody leaves.";
    bench.server.refusals.push({ type: "urn:kite:problem:no_capacity", title: "", status: 503, detail, remedy });
    await go(start);
    await page.getByText(detail).waitFor();
    await page.getByText(remedy).waitFor();
    await look("refused");
    await page.getByRole("button", { name: "Try again" }).click();
    await isPlaying();
  });

  test("on a phone draws the pad of the manifest", async () => {
    await open({ width: 844, height: 390 }, true);
    await go("/play/pad-game?autostart=1");
    await isPlaying();
    await page.getByRole("button", { name: "A", exact: true }).waitFor();
    await page.waitForTimeout(3_000);
    await look("phone");
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
  });
});

const lastSession = (): TestSession | undefined => [...bench.server.sessions.values()].at(-1);

/** Plays once, and leaves. */
async function playOnce(): Promise<void> {
  await go("/play/chocolate-doom?autostart=1");
  await isPlaying();
  await page.getByRole("button", { name: "Leave the game" }).click();
  await page.getByRole("heading", { name: "Games" }).waitFor();
  await until(
    () => lastSession()?.session.state.state,
    (state) => state === "ended",
  );
}

describe("your plays", () => {
  test("are none before the first, and looking makes no player", async () => {
    const before = bench.server.players.size;
    await go("/");
    await page.getByRole("link", { name: "Your plays" }).click();
    await page.getByRole("heading", { name: "No plays yet" }).waitFor();
    expect(bench.server.players.size).toBe(before);
  });

  test("say what, when, how long and why it ended, until they are forgotten", async () => {
    const before = bench.server.players.size;
    await playOnce();
    await playOnce();
    expect(bench.server.players.size, "both are of one player").toBe(before + 1);
    await go("/plays");
    await page.getByRole("heading", { name: "Your plays" }).waitFor();
    const rows = page.getByRole("main").getByRole("listitem");
    expect(await rows.count()).toBe(2);
    const text = (await rows.first().textContent()) ?? "";
    expect(text).toContain("Doom: FreeDM");
    expect(text).toContain("under a minute");
    expect(text).toContain("You left the game.");
    expect(await rows.first().locator("time").getAttribute("datetime")).toMatch(/^20\d\d-/);
    await look("plays");
    page.on("dialog", (dialog) => dialog.accept());
    await page.getByRole("button", { name: "Forget my plays" }).click();
    await page.getByRole("heading", { name: "No plays yet" }).waitFor();
    expect(bench.server.players.size).toBe(before);
    expect(complaints).toEqual([]);
  });

  test("come in pages, and fit a phone", async () => {
    await open({ width: 390, height: 844 }, true);
    await playOnce();
    const last = lastSession();
    for (let number = 0; number < 60; number++) {
      const older = new TestSession("gone-game", { width: 1280, height: 720, frames_per_second: 60 });
      older.player = last?.player ?? null;
      bench.server.sessions.set(older.session.id, older);
    }
    await go("/plays");
    const rows = page.getByRole("main").getByRole("listitem");
    await until(
      () => rows.count(),
      (count) => count === 50,
    );
    expect(await rows.first().textContent()).toContain("gone-game");
    expect(await rows.first().textContent()).toContain("running now");
    await page.getByRole("button", { name: "Show older plays" }).click();
    await until(
      () => rows.count(),
      (count) => count === 61,
    );
    expect(await page.getByRole("button", { name: "Show older plays" }).count()).toBe(0);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
    page.on("dialog", (dialog) => dialog.accept());
    await page.getByRole("button", { name: "Forget my plays" }).click();
    await page.getByText("A session of this player has not ended yet.").waitFor();
  });
});

const GAME = "chocolate-doom";
const fits = (): Promise<boolean> => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

describe("a save that went on in several ways", () => {
  test("is chosen by the player, and played with", async () => {
    await playOnce();
    const { saves } = bench.server;
    saves.add(GAME, { is_newest: false });
    const [older] = [
      saves.add(GAME, { session: lastSession()?.session.id ?? null }),
      saves.add(GAME, { bytes: 123_456 }),
    ];
    bench.server.refusals.push(problem(409, "save_conflict", "Your save went on in several ways."));
    await page.getByRole("link", { name: "Doom: FreeDM" }).click();
    await page.getByRole("button", { name: "Play" }).click();
    await page.getByRole("heading", { name: "Which save do you go on with?" }).waitFor();
    expect(await page.evaluate(() => document.activeElement?.tagName)).toBe("H1");
    expect(await page.locator("[data-state]").getAttribute("data-reason")).toBe("save_conflict");
    const rows = page.getByRole("listitem");
    await until(
      () => rows.count(),
      (count) => count === 2,
    );
    expect(await rows.last().textContent()).toContain("when the game ended · under a minute of play · 0 bytes");
    await look("choice");
    // The link to the saves, then a button each.
    for (let tab = 0; tab < 3; tab++) await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await isPlaying();
    expect(bench.server.wishes.at(-1)).toMatchObject({ app: GAME, save: older?.id });
  });
});

describe("a save that is in use", () => {
  const inUse = problem(409, "save_in_use", "Your session of this game is running.");

  /** The game runs elsewhere, and is refused here. */
  async function refused(): Promise<TestSession | undefined> {
    await go(`/play/${GAME}?autostart=1`);
    await isPlaying();
    const elsewhere = lastSession();
    await page.evaluate(() => sessionStorage.clear());
    bench.server.refusals.push(inUse);
    await page.reload();
    await page.getByRole("heading", { name: "Doom: FreeDM is running elsewhere" }).waitFor();
    await page.getByText(/since .* \(under a minute\)/).waitFor();
    return elsewhere;
  }

  test("is taken over: the other play ends, and its save is waited for", async () => {
    const elsewhere = await refused();
    await look("in-use");
    bench.server.refusals.push(inUse, inUse);
    await page.getByRole("button", { name: "End it there and play here" }).click();
    await page.getByText("The other play is being saved …").waitFor();
    await look("take-over");
    await isPlaying();
    expect(elsewhere?.session.state.state).toBe("ended");
    expect(lastSession()).not.toBe(elsewhere);
  });

  test("is not waited for any more when the player says so, nor where it is free", async () => {
    await refused();
    bench.server.refusals.push(...Array.from({ length: 60 }, () => inUse));
    await page.getByRole("button", { name: "End it there and play here" }).click();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("It has ended meanwhile.").waitFor();
    bench.server.refusals.length = 0;
    await page.getByRole("button", { name: "Try again" }).click();
    await isPlaying();
  });

  test("by the play that was just left here is waited for without a word", async () => {
    await go(`/play/${GAME}?autostart=1`);
    await isPlaying();
    const left = lastSession();
    if (left !== undefined) {
      left.leave = () => left.become({ state: "stopping", reason: "player_left" }, "It is being stopped.");
    }
    await page.getByRole("button", { name: "Leave the game" }).click();
    bench.server.refusals.push(inUse, inUse);
    await page.getByRole("link", { name: "Doom: FreeDM" }).click();
    await page.getByRole("button", { name: "Play" }).click();
    await page.getByText("Your last play is being saved …").waitFor();
    await isPlaying();
    expect(lastSession()).not.toBe(left);
  });
});

describe("your saves", () => {
  test("are none before the first, and looking makes no player", async () => {
    const before = bench.server.players.size;
    await go("/");
    await page.getByRole("link", { name: "Your saves" }).click();
    await page.getByRole("heading", { name: "No saves yet" }).waitFor();
    await look("no-saves");
    expect(bench.server.players.size).toBe(before);
  });

  test("are downloaded, gone back to, brought and deleted", async () => {
    await playOnce();
    const { saves } = bench.server;
    const first = saves.add(GAME, { is_newest: false }, "first");
    saves.add("gone-game");
    saves.add(GAME, {}, "second");
    await page.getByRole("link", { name: "Doom: FreeDM" }).click();
    await page.getByRole("link", { name: "Your saves of this game" }).click();
    await page.getByRole("heading", { name: "Your saves" }).waitFor();
    expect(new URL(page.url()).search).toBe(`?app=${GAME}`);
    await page.getByRole("link", { name: "All your saves" }).click();
    await page.getByRole("heading", { name: "gone-game" }).waitFor();
    const doom = page.locator(`[data-app="${GAME}"]`);
    const rows = doom.getByRole("listitem");
    await look("saves");

    const [download] = await Promise.all([
      page.waitForEvent("download"),
      doom.locator(`[data-version="${first.id}"]`).getByRole("button", { name: "Download" }).click(),
    ]);
    expect(download.suggestedFilename()).toMatch(/^chocolate-doom-.*\.tar$/);
    expect(await readFile(await download.path(), "utf8")).toBe("first");

    page.on("dialog", (dialog) => dialog.accept());
    expect(await rows.first().getByRole("button", { name: "Go back to this" }).count()).toBe(0);
    await rows.last().getByRole("button", { name: "Go back to this" }).click();
    await page.getByText(/The next play begins with the save of/).waitFor();
    expect(await rows.count()).toBe(3);
    expect(await rows.first().textContent()).toContain("Newest");

    const chosen = { name: "mine.tar", mimeType: "application/x-tar" };
    await doom.getByLabel("Bring a save").setInputFiles({ ...chosen, buffer: Buffer.from("third") });
    await page.getByText("“mine.tar” was brought.").waitFor();
    expect(await rows.count()).toBe(4);
    await doom.getByLabel("Bring a save").setInputFiles({ ...chosen, buffer: Buffer.from("") });
    await page.getByText("This is no archive. Try something else.").waitFor();

    await doom.getByRole("button", { name: "Delete all saves of this game" }).click();
    await page.getByText("The saves are deleted.").waitFor();
    expect(await doom.count()).toBe(0);
    expect(saves.versions.map(({ app }) => app)).toEqual(["gone-game"]);
    expect(complaints.filter((text) => !text.includes("422"))).toEqual([]);
  });

  test("of hundreds show the newest, and fit a narrow phone", async () => {
    await open({ width: 320, height: 640 }, true);
    await playOnce();
    bench.server.saves.add(GAME);
    for (let number = 0; number < 24; number++) bench.server.saves.add(GAME, { is_newest: number === 23 });
    await go(`/saves?app=${GAME}`);
    const rows = page.getByRole("listitem");
    await until(
      () => rows.count(),
      (count) => count === 11,
    );
    expect(await rows.last().textContent(), "the oldest is one of the newest").toContain("Newest");
    await page.getByRole("button", { name: "Show older saves" }).click();
    expect(await rows.count()).toBe(21);
    expect(await fits()).toBe(true);
    await look("saves-phone");
  });

  test("are brought also by who never played here", async () => {
    const before = bench.server.players.size;
    await go(`/saves?app=${GAME}`);
    const archive = { name: "mine.tar", mimeType: "application/x-tar", buffer: Buffer.from("mine") };
    await page.getByLabel("Bring a save").setInputFiles(archive);
    await page.getByText("“mine.tar” was brought.").waitFor();
    expect(bench.server.players.size).toBe(before + 1);
    expect(await page.getByRole("listitem").count()).toBe(1);
  });
});
