/** Disks that are full or lie: what does not fit is refused in words while games go on, and a bit that is not what it was is found. */

import assert from "node:assert/strict";
import { closeSync, existsSync, openSync, readFileSync, readdirSync, rmSync, statSync, writeSync } from "node:fs";
import { join, relative } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Builds, differences } from "../lib/builds.ts";
import { Disk } from "../lib/disk.ts";
import { CHECKPOINT_S, KEEPSAKES, keepsakes, playKeepsakes, Witness } from "../lib/keepsakes.ts";
import { newDirectory, WIDE_LIMITS } from "../lib/kite.ts";
import { until } from "../lib/programs.ts";
import { Random, testSeed } from "../lib/random.ts";
import { Service } from "../lib/restarts.ts";
import { answer, ask, begin, finish, kiteApp, newPlayer, operatorToken, push, versions } from "../lib/saves.ts";
import type { Running } from "../lib/saves.ts";

const MUCH_MB = 1500;
/** The site's volume leaves so much of its disk free. */
const RESERVE_MB = 256;
/** 66 MB. */
const SIZE = { largeFiles: 2, largeBytes: 32 << 20, smallFiles: 200, newBytes: 1 << 20 };

/** How often a bit flips. */
const FLIPS = 12;

/** A fetch that failed is tried again after a quarter of a minute. */
const RETRY_MS = 25_000;

const random = new Random(testSeed());
const directory = newDirectory("kite-spec-");
const disk = new Disk(join(directory, "disk"), MUCH_MB);
const [store, volume] = [join(disk.directory, "content"), join(disk.directory, "volume")];
const limits = `${WIDE_LIMITS}connect_timeout_s = 300\n`;
const service = new Service(directory, `${limits}[store]\ndir = "${store}"\n[volume]\ndir = "${volume}"\n`);
const witness = new Witness();
const fitting = new Builds("fitting", join(directory, "fitting"), SIZE, random);
/** Who plays all the time. */
let player = "";
let running: Running;

before(async () => {
  await service.up();
  push(service.server, keepsakes(directory));
  player = await newPlayer(service.server);
  witness.add(player);
  running = await playKeepsakes(service.server, player);
});

// Whatever became of it in the test before.
beforeEach(() => service.up());

after(async () => {
  await service.stop().finally(() => disk.remove());
  rmSync(directory, { recursive: true, force: true });
});

interface Replica {
  readonly state: string;
  readonly detail?: string;
}

async function replica(release: number): Promise<Replica> {
  const path = `/v1/apps/fitting/releases/${release}/replicas/local`;
  return answer<Replica>(await ask(service.server, operatorToken(service.server), "GET", path));
}

/** Wants a release on the site. */
async function place(release: number): Promise<void> {
  const path = `/v1/apps/fitting/releases/${release}/replicas/local`;
  await answer(await ask(service.server, operatorToken(service.server), "POST", path, { policy: "pinned" }));
}

async function inState(release: number, state: string): Promise<Replica> {
  return until(`release ${release} is ${state}`, async () => {
    const now = await replica(release);
    return now.state === state ? now : undefined;
  }, RETRY_MS);
}

/** The copy on the site is what was pushed. */
function compare(content: string): void {
  assert.equal(differences(fitting.directory, join(volume, "present", content, "files")), "");
}

/** What runs goes on. */
async function goesOn(): Promise<void> {
  const view = await answer<{ state: { state: string } }>(
    await ask(service.server, running.token, "GET", `/v1/sessions/${running.id}`),
  );
  assert.equal(view.state.state, "ready");
}

async function newVersion(): Promise<void> {
  const before = (await versions(service.server, player, KEEPSAKES)).length;
  const isMore = async (): Promise<boolean> => (await versions(service.server, player, KEEPSAKES)).length > before;
  await until("a new version of the save", isMore, (CHECKPOINT_S + 8) * 1000, 250);
  await witness.look(service.server);
}

/** Flips a bit of a file. */
function flip(path: string, bit: number): void {
  const file = openSync(path, "r+");
  const at = Math.floor(bit / 8);
  writeSync(file, Buffer.from([(readFileSync(path)[at] ?? 0) ^ (1 << bit % 8)]), 0, 1, at);
  closeSync(file);
}

function someBit(path: string): number {
  return random.below(statSync(path).size * 8);
}

/** Files of the store of one kind, like `packs`. */
function objects(kind: string): string[] {
  const found = readdirSync(join(store, kind), { recursive: true, withFileTypes: true });
  return found.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

/** An object's name, as it is told. */
function nameOf(path: string): string {
  const [kind, , id] = relative(store, path).split("/");
  return `${kind}/${id}`;
}

test("a bit that flips in the store is found, with the object's name and whom it hits", async () => {
  await newVersion();
  await service.pushed(fitting.directory);
  for (let round = 0; round < FLIPS; round++) {
    const path = random.pick(objects(["packs", "trees", "roots"][round % 3] ?? ""));
    const bit = someBit(path);
    flip(path, bit);
    const { isWell, said } = await service.verified();
    assert.ok(!isWell, `bit ${bit} of ${nameOf(path)} was not found`);
    assert.match(said, new RegExp(`^${nameOf(path)} is damaged; needed by [0-9a-f]{64}`, "m"));
    flip(path, bit);
  }
  assert.ok((await service.verified()).isWell);
});

test("what is damaged in the store comes to no player", async () => {
  fitting.next();
  const known = new Set(objects("packs"));
  const { release, content } = await service.pushed(fitting.directory);
  const path = random.pick(objects("packs").filter((pack) => !known.has(pack)));
  // In its chunks: its end says what lies where, and would be missed before anything is fetched.
  const bit = random.below(statSync(path).size * 4);
  flip(path, bit);
  await place(release);
  const { detail } = await inState(release, "failed");
  assert.match(detail ?? "", new RegExp(`${nameOf(path)} is damaged`));
  assert.equal(existsSync(join(volume, "present", content)), false);
  flip(path, bit);
  await inState(release, "present");
  compare(content);
});

test("a file that is damaged on the site spoils no release that is brought there later", async () => {
  const [damaged] = readdirSync(join(volume, "present")).filter((content) => existsSync(join(volume, "present", content, "files", "large0")));
  const large = join(volume, "present", damaged ?? "", "files", "large0");
  for (let round = 0; round < FLIPS; round++) flip(large, someBit(large));
  fitting.next();
  const { release, content } = await service.pushed(fitting.directory);
  await place(release);
  await inState(release, "present");
  compare(content);
});

test("a site that lost its copies gets them again", async () => {
  const present = readdirSync(join(volume, "present"));
  await finish(service.server, running);
  await service.stop();
  rmSync(volume, { recursive: true });
  await service.up();
  running = await playKeepsakes(service.server, player);
  await until("all copies", () => present.every((content) => existsSync(join(volume, "present", content))), RETRY_MS);
});

test("a release that does not fit on the site is refused in words, and comes when there is room", async () => {
  fitting.next();
  const { release, content } = await service.pushed(fitting.directory);
  disk.leave(RESERVE_MB + 30);
  await place(release);
  const { detail } = await inState(release, "failed");
  assert.match(detail ?? "", /volume is full: \d+ bytes are needed, \d+ are free/);
  kiteApp(service.server, "promote", "fitting", `${release}`);
  await assert.rejects(begin(service.server, await newPlayer(service.server), "fitting"), /disk_full/);
  await newVersion();
  await goesOn();
  disk.leave(MUCH_MB);
  await inState(release, "present");
  compare(content);
});

test("a push that does not fit is refused in words, games go on without room, and nothing of a save is lost", async () => {
  const large = new Builds("large", join(directory, "large"), { ...SIZE, largeFiles: 10 }, random);
  const other = await begin(service.server, await newPlayer(service.server), KEEPSAKES);
  disk.leave(160);
  await assert.rejects(service.pushed(large.directory), /disk is full/);
  // Pushes leave room for saves.
  await newVersion();
  disk.leave(0);
  await sleep((CHECKPOINT_S + 2) * 1000);
  await goesOn();
  await witness.look(service.server);
  await finish(service.server, other);
  // What became no version is not removed.
  const [rescued, ...others] = readdirSync(join(service.storage, "rescue"));
  assert.equal(others.length, 0);
  assert.ok(readdirSync(join(service.storage, "rescue", rescued ?? "", "home", ".keepsakes")).length > 0);

  disk.leave(MUCH_MB);
  await newVersion();
  const { sent_bytes, logical_bytes } = await service.pushed(large.directory);
  assert.ok(sent_bytes < logical_bytes - (64 << 20), `${sent_bytes} of ${logical_bytes} bytes were sent: what had arrived, too`);
  assert.ok((await service.verified()).isWell);
  await goesOn();
});
