/** Commands to an instance that somebody plays: scripts in its sandbox, logs, screenshots, a restart, a stop, and the record of all. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { inflateSync } from "node:zlib";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { binary, newDirectory, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { changed, ended, look, openPlay, playing } from "../lib/play.ts";
import { until } from "../lib/programs.ts";

const APP = "chocolate-doom";

let kite: Kite;
let browser: Browser;
let page: Page;
let id: string;
const directory = newDirectory("kite-spec-");

before(async () => {
  kite = await startKite();
  browser = await launchChromium();
  page = await openPlay(browser, kite, APP);
  await playing(page);
  const stored = await page.evaluate<string | null>(`sessionStorage.getItem("kite.session.${APP}")`);
  id = (JSON.parse(stored ?? "{}") as { id: string }).id;
});

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Told {
  readonly status: number | null;
  readonly out: Buffer;
  readonly error: string;
}

/** What the operator types. */
function session(command: string, ...words: string[]): Told {
  const server = ["--url", kite.base, "--data", join(kite.data, "data")];
  const { status, stdout, stderr } = spawnSync(binary("kite"), ["session", command, ...server, ...words], { maxBuffer: 64 << 20 });
  return { status, out: stdout, error: stderr.toString() };
}

function exec(script: string, ...words: string[]): Told {
  return session("exec", ...words, id, "--", script);
}

/** The game is played on. */
async function goesOn(): Promise<void> {
  assert.equal(await page.locator("[data-state]").getAttribute("data-state"), "playing");
  const before = await look(page);
  await page.keyboard.press("Escape");
  await changed(page, before, 2);
  await page.keyboard.press("Escape");
}

interface PictureFile {
  readonly width: number;
  readonly height: number;
  /** How many bytes of the unpacked picture differ from each other. */
  readonly values: number;
}

function png(path: string): PictureFile {
  const bytes = readFileSync(path);
  assert.equal(bytes.subarray(0, 8).toString("latin1"), "\x89PNG\r\n\x1a\n");
  const data: Buffer[] = [];
  for (let at = 8; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    if (bytes.toString("latin1", at + 4, at + 8) === "IDAT") data.push(bytes.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const unpacked = inflateSync(Buffer.concat(data));
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20), values: new Set(unpacked).size };
}

test("a script sees the sandbox and nothing else, and its status is the command's", async () => {
  const told = exec("id -u; ls /; ls ~; echo to error >&2; test -e /root && echo FOUND; cat /proc/1/comm; exit 7");
  assert.equal(told.status, 7, told.error);
  const lines = told.out.toString().split("\n");
  assert.notEqual(lines[0], "0", "not as root");
  assert.ok(lines.includes("app") && lines.includes("to error"), told.out.toString());
  assert.ok(!lines.includes("FOUND") && !lines.includes("root"), told.out.toString());
  const inside = exec("hostname; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; tr '\\0' ' ' < /proc/self/cmdline >/dev/null; ps ax 2>/dev/null | grep -c doom");
  assert.match(inside.out.toString(), /^kite\nlo\n/, inside.out.toString());
  await goesOn();
});

test("an output that is no text comes as it is", () => {
  const told = exec("printf '\\377\\000\\376'");
  assert.deepEqual([told.status, ...told.out], [0, 0xff, 0x00, 0xfe], told.error);
});

test("hostile scripts end at their time, with all that they started, and the game goes on", async () => {
  for (const script of [
    "trap '' TERM INT HUP; setsid sleep 27182 & while :; do :; done",
    // The shell itself does not fork any more: it would end where it cannot.
    "(setsid sleep 27182 &); (f() { f | f & }; f) & while :; do :; done",
    "cat /dev/zero",
  ]) {
    const began = performance.now();
    const told = exec(script, "--timeout", "2");
    const tookMs = performance.now() - began;
    assert.equal(told.status, 124, `${script}: ${told.error}`);
    assert.ok(tookMs < 15_000, `${script}: ${tookMs} ms`);
    assert.ok(told.out.length <= 256 << 10, `${script}: ${told.out.length}`);
    const left = spawnSync("pgrep", ["-f", "sleep 27182"]).stdout.toString();
    assert.equal(left, "", `${script}: something is left`);
    await goesOn();
  }
});

test("a screenshot is what the game shows", async () => {
  const path = join(directory, "shot.png");
  const told = session("screenshot", id, "--output", path);
  assert.equal(told.status, 0, told.error);
  const picture = png(path);
  assert.deepEqual([picture.width, picture.height], [1280, 720]);
  assert.ok(picture.values > 32, `${picture.values} values: a picture of nothing`);
  await goesOn();
});

test("logs of the game and of its streamer", () => {
  const told = session("logs", id);
  assert.equal(told.status, 0, told.error);
  const text = told.out.toString();
  assert.match(text, /^== game/);
  assert.match(text, /Doom/i);
  assert.match(text, /== streamer/);
});

test("a restart brings the page back by itself, into a new start of the game on the same node", async () => {
  exec("echo here > /tmp/of-the-first-start");
  const began = performance.now();
  const told = session("restart", id);
  assert.equal(told.status, 0, told.error);
  await until("the page plays again", async () => (await page.locator("[data-state]").getAttribute("data-state")) === "playing", 30_000);
  await playing(page);
  console.log(`back in the game after ${Math.round(performance.now() - began)} ms`);
  const show = session("show", id).out.toString();
  assert.match(show, /start 2 of its game/);
  await until("a new sandbox", () => exec("test -e /tmp/of-the-first-start").status === 1);
  await goesOn();
});

test("a stop ends the play, and the record has everything that was asked", async () => {
  const told = session("stop", id);
  assert.equal(told.status, 0, told.error);
  assert.equal((await ended(page)).reason, "ended_by_operator");
  assert.equal(session("logs", id).status, 0, "its logs are kept");
  const refused = session("screenshot", id);
  assert.equal(refused.status, 1);
  assert.match(refused.error, /has ended/);
  const record = session("commands", id).out.toString().trim().split("\n");
  for (const action of ["exec", "screenshot", "logs", "restart", "stop"]) {
    assert.ok(record.some((line) => line.includes(` ${action} `) && line.includes("operator")), `${action} in ${record.join("\n")}`);
  }
  assert.match(record[0] ?? "", /logs .*done/);
  assert.ok(record.some((line) => line.includes("timed_out")), record.join("\n"));
  assert.ok(record.some((line) => line.includes("exit 7")), record.join("\n"));
});

test("a session that the operator launches is joined by its address", async () => {
  const told = session("start", APP);
  assert.equal(told.status, 0, told.error);
  const address = /page {2}(\S+)/.exec(told.out.toString())?.[1] ?? assert.fail(told.out.toString());
  const context = await browser.newContext({ viewport: { width: 1280, height: 720 } });
  const other = await context.newPage();
  await other.goto(address.replace("#", "?autostart=1&fps=60#"));
  await playing(other);
  assert.ok(!other.url().includes("token"), "the token is taken out of the address");
  const launched = /#session=(ses_[0-9a-f]{32})/.exec(address)?.[1] ?? "";
  assert.match(session("list", "--running").out.toString(), new RegExp(launched));
  assert.equal(session("stop", launched).status, 0);
  assert.equal((await ended(other)).reason, "ended_by_operator");
});
