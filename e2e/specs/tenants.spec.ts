/** A tenant's life by the command line and in a player's browser: made, keys with roles, a game pushed and played, suspended, closed, on record. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { WIDE_LIMITS, binary, newDirectory, probePackage, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { leave, openPlay, playing } from "../lib/play.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");
const storage = join(directory, "data");
const small = { width: 640, height: 360, framesPerSecond: 30 };

interface Done {
  readonly status: number | null;
  readonly out: string;
  readonly error: string;
}

/** What the command line does with a key; without one with the operator's token. */
function cli(key: string | undefined, ...args: readonly string[]): Done {
  const environment = { ...process.env, ...(key === undefined ? {} : { KITE_TOKEN: key }) };
  const done = spawnSync(binary("kite"), [...args, "--url", kite.base, "--data", storage], { encoding: "utf8", env: environment });
  return { status: done.status, out: done.stdout.trim(), error: done.stderr.trim() };
}

function good(key: string | undefined, ...args: readonly string[]): string {
  const { status, out, error } = cli(key, ...args);
  assert.equal(status, 0, `${args.join(" ")}: ${error}`);
  return out;
}

function refused(expected: RegExp, key: string | undefined, ...args: readonly string[]): void {
  const { status, error } = cli(key, ...args);
  assert.notEqual(status, 0, args.join(" "));
  assert.match(error, expected);
}

before(async () => {
  kite = await startKite({ games: [newDirectory("kite-none-")], storage, config: WIDE_LIMITS });
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("a tenant is made, its people do what their roles may do, its game is played, and who did what is on record", async () => {
  const owner = good(undefined, "tenant", "create", "studio", "--title", "The Studio", "--time-zone", "Europe/Berlin");
  assert.match(owner, /^ktn_[0-9a-f]{64}$/);
  const developer = good(owner, "key", "create", "build server", "--role", "developer", "--days", "30");
  const finance = good(owner, "key", "create", "books", "--role", "finance");
  assert.match(good(finance, "key", "who"), /^finance of studio: sessions_read money_read money_write$/);

  const package_ = probePackage("probe-x11", directory);
  refused(/has not the right `apps_write`/, finance, "app", "push", package_);
  good(developer, "app", "push", package_);
  const page = await openPlay(browser, kite, "probe-x11", small);
  await playing(page);
  assert.match(good(finance, "session", "list", "--running"), /probe-x11/);

  good(undefined, "tenant", "suspend", "studio", "--reason", "invoice 17");
  refused(/is suspended: it sees everything and changes nothing/, developer, "app", "push", package_);
  const late = await openPlay(browser, kite, "probe-x11", small);
  await late.locator('[data-state="refused"]').waitFor({ timeout: 15_000 });
  assert.match((await late.locator("body").textContent()) ?? "", /not offered at the moment/);
  await late.context().close();
  await playing(page);
  good(undefined, "tenant", "resume", "studio");
  await leave(page);

  const used = good(finance, "usage");
  assert.match(used, /^ses_[0-9a-f]{32} {2}studio {2}probe-x11 {2}\d+\.\d{3} s$/m);
  assert.match(used, /^ {2}\S+Z {2}\S+Z {2}\d+\.\d{3} s {2}player_left$/m);

  const keys = good(owner, "key", "list").split("\n");
  const books = keys.find((line) => line.includes("  books  "))?.split(" ")[0] ?? "";
  good(owner, "key", "revoke", books);
  refused(/token is not known|issued this token/, finance, "key", "who");

  const record = good(owner, "admin", "audit");
  for (const line of [/key first of studio {2}key\.create/, /key build server of studio {2}release\.make {2}probe-x11 1/, /settings|tenant\.create/, /state: "active" -> "suspended"/, /invoice 17/, /key\.revoke/]) {
    assert.match(record, line);
  }
  assert.doesNotMatch(record, /ktn_/);
  assert.match(good(undefined, "admin", "audit", "--json"), /"kind":"operator"/);

  good(undefined, "tenant", "close", "studio");
  refused(/issued this token/, owner, "key", "who");
  assert.match(good(undefined, "tenant", "list"), /studio {2}closed {2}The Studio/);
});
