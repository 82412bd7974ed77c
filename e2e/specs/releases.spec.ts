/** Uploaded packages: what a push sends, which release a play gets, and that many plays share one copy and see nothing of each other. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { cpSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { newDirectory, startKite, WIDE_LIMITS } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import {
  answer, archiveOf, ask, begin, finish, kiteApp, newPlayer, operatorToken, push, refusal, scripted, untar, versions,
} from "../lib/saves.ts";
import type { Running, Server } from "../lib/saves.ts";

const PAYLOAD_BYTES = 24 << 20;
/** Twenty, where the machine has the processors: two cores carry them as long as nobody looks. */
const INSTANCES = Number(process.env["KITE_E2E_INSTANCES"] ?? 20);

/**
 * Each play writes into files of its package: one that is there, one that is new, one that all others write too. What it found of
 * the last one before is kept with what it wrote.
 */
const WRITER = `
cat "$base/shared" >> "$base/kept" 2> /dev/null
cat /proc/sys/kernel/random/uuid > "$base/shared"
cat "$base/shared" "$base/version" >> "$base/kept"
echo overwritten > "$base/given"
rm "$base/removable"`;
const KEPT_FILE = "base/kept";

let kite: Kite;
let server: Server;
let package_: string;
const directory = newDirectory("kite-spec-");

/** What the package says of itself, in a file that the game copies into its save. */
function setVersion(text: string): void {
  writeFileSync(join(package_, "version"), `${text}\n`);
}

before(async () => {
  const storage = join(directory, "data");
  const config = `${WIDE_LIMITS}connect_timeout_s = 300\n`;
  const games = [scripted(directory, "own", "", "")];
  kite = await startKite({ games, sessions: INSTANCES + 2, storage, config });
  server = { base: kite.base, storage };
  package_ = scripted(directory, "writer", WRITER, '[saves]\npaths = ["<base>/kept"]\nconcurrent = "branch"\n');
  writeFileSync(join(package_, "payload"), randomBytes(PAYLOAD_BYTES));
  for (const name of ["given", "removable"]) writeFileSync(join(package_, name), `${name}\n`);
  setVersion("one");
});

after(async () => {
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** Bytes that a directory takes of the disk; a file with several names counts once. */
function diskBytes(path: string): number {
  const du = spawnSync("du", ["--summarize", "--block-size=1", path], { encoding: "utf8" });
  return Number(du.stdout.split("\t")[0]);
}

/** Lines that the newest version of a player's save has, in the order of writing. */
async function keptLines(player: string, app = "writer"): Promise<string[]> {
  const [newest] = await versions(server, player, app);
  const file = newest && untar(await archiveOf(server, player, newest.id)).get(KEPT_FILE);
  return Buffer.from(file ?? []).toString().trim().split("\n");
}

/** What a package of its own version says when a new player plays it. */
async function versionPlayed(more: object = {}): Promise<string | undefined> {
  const player = await newPlayer(server);
  await finish(server, await begin(server, player, "writer", more));
  return (await keptLines(player))[1];
}

interface Pushed {
  readonly release: number;
  readonly channels: readonly string[];
  readonly logical_bytes: number;
  readonly sent_bytes: number;
}

function pushed(...more: readonly string[]): Pushed {
  return JSON.parse(kiteApp(server, "push", package_, "--json", ...more)) as Pushed;
}

test("a push makes a release, the next one sends what changed, channels decide who gets which", async () => {
  const first = pushed();
  assert.deepEqual([first.release, first.channels], [1, ["stable"]]);
  assert.ok(first.logical_bytes > PAYLOAD_BYTES && first.sent_bytes > PAYLOAD_BYTES * 0.99, JSON.stringify(first));
  assert.equal(await versionPlayed(), "one");

  setVersion("two");
  const payload = readFileSync(join(package_, "payload"));
  payload.fill(7, 10_000_000, 10_000_100);
  writeFileSync(join(package_, "payload"), payload);
  const second = pushed();
  assert.deepEqual([second.release, second.channels], [2, []], "no channel points to a later release by itself");
  assert.ok(second.sent_bytes < 1_000_000, `${second.sent_bytes} bytes were sent for 100 that changed`);
  assert.equal(await versionPlayed(), "one");

  kiteApp(server, "promote", "writer", "2", "--channel=beta");
  assert.deepEqual([await versionPlayed({ channel: "beta" }), await versionPlayed()], ["two", "one"]);

  const player = await newPlayer(server);
  const running = await begin(server, player, "writer");
  kiteApp(server, "promote", "writer", "2");
  assert.equal(await versionPlayed(), "two");
  await finish(server, running);
  assert.equal((await keptLines(player))[1], "one", "who played went on with his release");

  kiteApp(server, "rollback", "writer");
  assert.equal(await versionPlayed(), "one");
  const plays = await answer<{ plays: { release: string }[] }>(await ask(server, player, "GET", "/v1/players/me/plays"));
  assert.deepEqual(plays.plays.map(({ release }) => release), ["1"]);
});

test("a package with a fault becomes no release, and its fault is named", () => {
  const faulty = join(directory, "faulty");
  cpSync(package_, faulty, { recursive: true });
  rmSync(join(faulty, "payload"));
  writeFileSync(join(faulty, "kite.toml"), readFileSync(join(package_, "kite.toml"), "utf8").replace("memory_mb", "memory_gb"));
  assert.throws(() => push(server, faulty), /memory_gb/);
  assert.equal(kiteApp(server, "releases", "writer").trim().split("\n").length, 2);
});

test("only the operator and tenants upload, and players see no releases", async () => {
  const player = await newPlayer(server);
  assert.equal((await fetch(`${server.base}/v1/apps/writer/uploads`, { method: "POST" })).status, 401);
  await refusal(await ask(server, player, "POST", "/v1/apps/writer/uploads"), 403);
  await refusal(await ask(server, player, "GET", "/v1/apps/writer/releases"), 403);
  const tenant = await ask(server, operatorToken(server), "POST", "/v1/tenants", { name: "somebody" });
  const { token } = await answer<{ token: string }>(tenant);
  await refusal(await ask(server, token, "POST", "/v1/apps/writer/uploads"), 403);
  await refusal(await ask(server, token, "GET", "/v1/apps/writer/releases"), 404);
  // Nor does a tenant get the players of a package that the operator has in a directory.
  await refusal(await ask(server, token, "POST", "/v1/apps/own/uploads"), 403);
});

test(`${INSTANCES} plays of one release share one copy, and none sees what another writes`, { timeout: 300_000 }, async () => {
  const volume = join(server.storage, "volume");
  const before = diskBytes(volume);
  const copies = readdirSync(join(volume, "present")).length;
  const players = await Promise.all(Array.from({ length: INSTANCES }, () => newPlayer(server)));
  const running: { player: string; session: Running }[] = [];
  for (const player of players) running.push({ player, session: await begin(server, player, "writer") });

  assert.equal(readdirSync(join(server.storage, "instances")).length, INSTANCES, "all of them run at once");
  assert.deepEqual([diskBytes(volume), readdirSync(join(volume, "present")).length], [before, copies], "no other copy was made");
  const own = diskBytes(join(server.storage, "instances")) / INSTANCES;
  assert.ok(own < PAYLOAD_BYTES / 4, `${own} bytes of disk for each play's own files`);

  for (const { session } of running) await finish(server, session);
  const lines = await Promise.all(players.map((player) => keptLines(player)));
  for (const of of lines) assert.equal(of.length, 2, `${of.join(", ")}: its own line and the package's version, nothing of another`);
  assert.equal(new Set(lines.map(([line]) => line)).size, INSTANCES);
  const [player] = players;
  await finish(server, await begin(server, player ?? "", "writer"));
  const again = await keptLines(player ?? "");
  assert.deepEqual([again.length, again.slice(0, 2)], [4, lines[0]], "of its own earlier play only what is a save");

  const present = readdirSync(join(volume, "present")).map((root) => join(volume, "present", root, "files"));
  for (const files of present) {
    assert.equal(readFileSync(join(files, "given"), "utf8"), "given\n");
    assert.ok(statSync(join(files, "removable")).isFile() && !readdirSync(files).includes("shared"));
  }
});
