/**
 * SIGKILL at random moments: of the command that pushes, of the service while it takes a push, brings a release to the site, runs, starts
 * and ends sessions, and of the command that collects. What was there before is there afterwards, whole, and work goes on.
 *
 * `KITE_TEST_SEED` repeats the choices; the moments are as random as the machine.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Builds, differences } from "../lib/builds.ts";
import { CHECKPOINT_S, KEEPSAKES, keepsakes, playKeepsakes, Witness } from "../lib/keepsakes.ts";
import { newDirectory, WIDE_LIMITS } from "../lib/kite.ts";
import { until } from "../lib/programs.ts";
import type { Program } from "../lib/programs.ts";
import { Random, testSeed } from "../lib/random.ts";
import { done, kill, Service } from "../lib/restarts.ts";
import type { Pushed } from "../lib/restarts.ts";
import { answer, ask, newPlayer, operatorToken, push } from "../lib/saves.ts";

/** How often each is killed. */
const ROUNDS = { firstPush: 4, push: 6, service: 7, replication: 7, sessions: 6, collection: 8 };

/** 130 MB. */
const SIZE = { largeFiles: 4, largeBytes: 28 << 20, smallFiles: 1500, newBytes: 8 << 20 };
const APP = "growing";
/** `stable` points to it. */
const FIRST_RELEASE = 1;

/** About what the first push takes at most of a fast machine. */
const FIRST_PUSH_MS = 600;

/** What a push of the same directory may send once more: names and hashes. */
const LITTLE_BYTES = 1 << 20;

/** Objects of the store that are older are looked at by a collection. */
const LONG_AGO_S = 2 * 24 * 3600;

const random = new Random(testSeed());
const directory = newDirectory("kite-spec-");
const service = new Service(directory, `${WIDE_LIMITS}connect_timeout_s = 300\n`);
const builds = new Builds(APP, join(directory, APP), SIZE, random);
const witness = new Witness();
const store = join(service.storage, "content");
/** How long the last push took that nobody killed. */
let pushMs = FIRST_PUSH_MS;
let kills = 0;

before(async () => {
  await service.up();
  push(service.server, keepsakes(directory));
});

// Whatever became of it in the test before.
beforeEach(() => service.up());

after(async () => {
  await service.stop();
  rmSync(directory, { recursive: true, force: true });
});

function pushing(): Program {
  return service.pushing(builds.directory);
}

/** Pushes the build that is there. */
async function pushed(): Promise<Pushed> {
  const begun = Date.now();
  const summary = await service.pushed(builds.directory);
  pushMs = Date.now() - begun;
  return summary;
}

/** What was pushed is not sent again. */
async function pushedAgain(): Promise<void> {
  const { sent_bytes } = await service.pushed(builds.directory);
  assert.ok(sent_bytes < LITTLE_BYTES, `${sent_bytes} bytes were sent of a build that is there`);
}

/** Everything that releases and saves need is there and whole. */
async function whole(): Promise<void> {
  const { isWell, said } = await service.verified();
  assert.ok(isWell, said);
  assert.deepEqual(service.faults(), []);
}

/** Bytes of the files below a directory. One that is being written has another name a moment later. */
function sizeOf(path: string): number {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const size = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
  return files.reduce((sum, { parentPath, name }) => sum + size(join(parentPath, name)), 0);
}

interface Release {
  readonly number: number;
  /** The name of its root. */
  readonly content: string;
}

/** All releases of the app, newest first. */
async function releases(): Promise<Release[]> {
  const listed = await ask(service.server, operatorToken(service.server), "GET", `/v1/apps/${APP}/releases`);
  if (listed.status === 404) return [];
  return (await answer<{ releases: Release[] }>(listed)).releases;
}

async function numbers(): Promise<number[]> {
  return (await releases()).map(({ number }) => number);
}

async function killed(program: Program): Promise<void> {
  kills += Number(await kill(program));
}

async function serviceKilled(): Promise<void> {
  kills += 1;
  await service.kill();
  await service.up();
}

/** A moment in something that takes so long, or a little after it. */
async function someMoment(ofMs: number): Promise<void> {
  await sleep(random.below(ofMs * 1.1));
}

/** Waits until nothing arrives any more, and says how much there is. */
async function arrived(): Promise<number> {
  for (let bytes = -1; ; await sleep(300)) {
    const now = sizeOf(join(store, "packs"));
    if (now === bytes) return bytes;
    bytes = now;
  }
}

test("of a push that is killed again and again nothing is sent twice that arrived", async () => {
  const before = await arrived();
  for (let round = 1; round <= ROUNDS.firstPush; round++) {
    const [there, program] = [await arrived(), pushing()];
    // At any moment, or when something has just arrived.
    if (round % 2 === 0) await until("a pack", () => sizeOf(join(store, "packs")) > there || program.exitCode() !== null, 10_000, 5);
    await someMoment(FIRST_PUSH_MS / 2);
    await killed(program);
  }
  const arrivedBytes = (await arrived()) - before;
  // Whose kill came late has made a release: a fast machine's last one, when all had arrived.
  const late = await numbers();
  const { release, sent_bytes, logical_bytes } = await pushed();
  console.log(`${arrivedBytes} of ${logical_bytes} bytes arrived, then ${sent_bytes} were sent`);
  assert.ok(sent_bytes < logical_bytes - arrivedBytes + LITTLE_BYTES);
  assert.deepEqual(await numbers(), [release, ...late]);
  await pushedAgain();
  await whole();
});

test("a push that is killed leaves no half of a release", async () => {
  const known = await numbers();
  for (let round = 1; round <= ROUNDS.push; round++) {
    builds.next();
    const program = pushing();
    await someMoment(pushMs);
    await killed(program);
    known.unshift((await pushed()).release);
  }
  await pushedAgain();
  await whole();
  const now = await numbers();
  assert.deepEqual(known.filter((release) => !now.includes(release)), []);
});

test("a service that is killed while it takes a push goes on, and most pushes do not notice", async () => {
  let unnoticed = 0;
  for (let round = 1; round <= ROUNDS.service; round++) {
    builds.next();
    const program = pushing();
    await someMoment(pushMs);
    await serviceKilled();
    await until("the push's end", () => program.exitCode() !== null, 60_000);
    if (program.exitCode() === 0) unnoticed += 1;
    else await pushed();
    await whole();
  }
  await pushedAgain();
  console.log(`${unnoticed} of ${ROUNDS.service} pushes did not notice`);
});

test("a service that is killed while it brings releases to the site serves no half of one", async () => {
  // By their contents' names, what the directories had that were pushed.
  const kept = new Map<string, string>();
  const path = (release: number): string => `/v1/apps/${APP}/releases/${release}/replicas/local`;
  const token = operatorToken(service.server);
  const placed: number[] = [];
  for (let index = 0; index < 2; index++) {
    builds.next();
    const { release, content } = await pushed();
    const copy = join(directory, "kept", content);
    builds.keep(copy);
    kept.set(content, copy);
    placed.push(release);
    await answer(await ask(service.server, token, "POST", path(release), { policy: "pinned" }));
  }
  const volume = join(service.storage, "volume");
  const served = (): string[] => readdirSync(join(volume, "present"));
  const compare = (): void => {
    for (const content of served()) {
      const copy = kept.get(content);
      if (copy !== undefined) assert.equal(differences(copy, join(volume, "present", content, "files")), "");
    }
  };
  for (let round = 1; round <= ROUNDS.replication; round++) {
    await someMoment(2000);
    kills += 1;
    await service.kill();
    compare();
    // Once all is there it is fetched again, all of it or one of them beside the other.
    if (served().length >= kept.size) rmSync(join(volume, "present", random.pick([".", ...kept.keys()])), { recursive: true });
    await service.up();
  }
  for (const number of placed) {
    await until(`release ${number} on the site`, async () => {
      const { state } = await answer<{ state: string }>(await ask(service.server, token, "GET", path(number)));
      return state === "present";
    }, 30_000);
  }
  compare();
  await whole();
});

test("a service that is killed in play, at its start and at its end loses no version of a save", { timeout: 240_000 }, async () => {
  const players = await Promise.all([1, 2, 3].map(() => newPlayer(service.server)));
  for (const player of players) witness.add(player);
  const spec = { width: 320, height: 180, frames_per_second: 10 };
  for (let round = 1; round <= ROUNDS.sessions; round++) {
    // Who started in this round plays in the next one.
    const [playing = "", ending = "", starting = ""] = [0, 1, 2].map((role) => players[(role + ROUNDS.sessions - round) % 3]);
    const [, end] = await Promise.all([playKeepsakes(service.server, playing), playKeepsakes(service.server, ending)]);
    // At once, or about a checkpoint.
    await sleep(random.pick([0, CHECKPOINT_S * 1000 - 500]));
    await someMoment(3000);
    const { status } = await ask(service.server, end.token, "DELETE", `/v1/sessions/${end.id}`);
    assert.ok(status < 300, `${status}`);
    await someMoment(300);
    await answer(await ask(service.server, starting, "POST", "/v1/sessions", { app: KEEPSAKES, spec }));
    await someMoment(1500);
    await witness.look(service.server);
    await serviceKilled();
    await witness.look(service.server);
  }
  await whole();
  console.log(`${witness.versions} versions were seen`);
  assert.ok(witness.versions > 2);
});

/** Everything in the store becomes old, and objects come that nothing needs, and what writers left that were killed. */
function neglect(count: number): string[] {
  const abandoned = Array.from({ length: count }, (_, index) => {
    const id = random.bytes(32).toString("hex");
    const place = join(store, random.pick(["packs", "trees", "roots"]), id.slice(0, 2));
    mkdirSync(place, { recursive: true });
    return join(place, index % 50 === 0 ? `${id}#1` : id);
  });
  for (const path of abandoned) writeFileSync(path, "");
  const then = Date.now() / 1000 - LONG_AGO_S;
  for (const entry of readdirSync(store, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) utimesSync(join(entry.parentPath, entry.name), then, then);
  }
  return abandoned;
}

/** A week passes: pushes that nobody went on with are given up, and what they relied on is theirs no more. */
function giveUpPushes(): void {
  const forget = ["upload_object", "upload_root", "upload"].map((table) => `delete from ${table};`).join(" ");
  const { status, stderr } = spawnSync("sqlite3", ["-cmd", ".timeout 5000", join(service.storage, "control.db"), forget], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
}

/** Removes a release that nobody has to have; the name of its root. */
async function removed(): Promise<string> {
  const [, , , ...old] = await releases();
  const { number, content } = random.pick(old.filter((release) => release.number !== FIRST_RELEASE));
  const response = await ask(service.server, operatorToken(service.server), "DELETE", `/v1/apps/${APP}/releases/${number}`);
  assert.ok(response.ok, await response.text());
  return content;
}

test("a collection that is killed has removed nothing that is needed, and the next one does what is left", async () => {
  const collecting = (): Program => service.command("content", "collect");
  const abandoned = neglect(1000);
  const begun = Date.now();
  await done(collecting());
  const collectMs = Date.now() - begun;
  const gone: string[] = [];
  for (let round = 1; round <= ROUNDS.collection; round++) {
    gone.push(await removed(), await removed());
    abandoned.push(...neglect(1000));
    builds.next();
    const [collection, push] = [collecting(), pushing()];
    await someMoment(collectMs);
    await killed(collection);
    await done(push);
    await whole();
  }
  giveUpPushes();
  neglect(0);
  await done(collecting());
  // What was pushed twice is one root of two releases.
  const contents = (await releases()).map(({ content }) => content);
  const roots = gone.filter((content) => !contents.includes(content)).map((id) => join(store, "roots", id.slice(0, 2), id));
  assert.deepEqual([...abandoned, ...roots].filter((path) => existsSync(path)), []);
  await pushedAgain();
  await whole();
  await witness.look(service.server);
  console.log(`${kills} kills`);
});
