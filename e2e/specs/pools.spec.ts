/** Instances that are kept ready: claimed in milliseconds, filled again, given up for whoever needs their place, gone with their pool. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { binary, newDirectory, probePackage, ROOT, startKite, WIDE_LIMITS } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { leave, openPlay, playing } from "../lib/play.ts";
import { until } from "../lib/programs.ts";
import { ask, operatorToken } from "../lib/saves.ts";
import type { Server } from "../lib/saves.ts";

/** Keeps saves: warm without its game. */
const DOOM = "chocolate-doom";
/** Keeps none: warm with its game. */
const PROBE = "probe-x11";
const PLACES = 4;
const PICTURE = { width: 640, height: 360, framesPerSecond: 30 };

let kite: Kite;
let server: Server;
let browser: Browser;
const directory = newDirectory("kite-spec-");

interface Pool {
  readonly id: string;
  readonly size: number;
  readonly ready: number;
  readonly starting: number;
  readonly warmth: "prepared" | "running";
  readonly hindered?: string;
}

before(async () => {
  probePackage("probe-x11", directory);
  kite = await startKite({
    games: [directory, join(ROOT, "games", DOOM)],
    sessions: PLACES,
    config: WIDE_LIMITS,
  });
  server = { base: kite.base, storage: join(kite.data, "data") };
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  await kite?.stop();
});

function pool(command: string, ...words: string[]): string {
  const run = spawnSync(binary("kite"), ["pool", command, "--url", kite.base, "--data", server.storage, ...words], { encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  return run.stdout;
}

async function pools(): Promise<readonly Pool[]> {
  const answer = await ask(server, operatorToken(server), "GET", "/v1/pools");
  return ((await answer.json()) as { pools: Pool[] }).pools;
}

/** Waits until a pool has so many ready. */
async function ready(id: string, count: number): Promise<Pool> {
  const found = async (): Promise<Pool | undefined> => (await pools()).find((one) => one.id === id);
  return until(`${count} ready`, async () => {
    const one = await found();
    return one?.ready === count && one.starting === 0 ? one : undefined;
  }, 60_000).catch(async () => assert.fail(JSON.stringify(await found())));
}

const SPEC = "640x360@30";

/** Adds a pool at this picture; its id. */
function add(app: string, size: number): string {
  const line = pool("add", app, "--site", "local", "--size", String(size), "--spec", SPEC);
  return line.split(" ")[0] ?? "";
}

interface Started {
  readonly id: string;
  readonly token: string;
  readonly state: string;
  readonly milliseconds: number;
}

/** Asks for a session without a page; how long until its game was ready. */
async function start(app: string): Promise<Started> {
  const began = performance.now();
  const spec = { width: PICTURE.width, height: PICTURE.height, frames_per_second: PICTURE.framesPerSecond };
  const answer = await ask(server, operatorToken(server), "POST", "/v1/sessions", { app, spec });
  const { session, token } = (await answer.json()) as { session: { id: string; state: { state: string } }; token: string };
  const first = session.state.state;
  await until("the game to be ready", async () => (await state(session.id)) === "ready", 30_000);
  return { id: session.id, token, state: first, milliseconds: performance.now() - began };
}

async function state(id: string): Promise<string> {
  const answer = await ask(server, operatorToken(server), "GET", `/v1/sessions/${id}`);
  return ((await answer.json()) as { state: { state: string } }).state.state;
}

async function end(session: Started): Promise<void> {
  await ask(server, operatorToken(server), "DELETE", `/v1/sessions/${session.id}`);
  await until("its end", async () => (await state(session.id)) === "ended", 30_000);
}

async function remove(id: string): Promise<void> {
  pool("remove", id);
  await until("an installation without instances", async () => (await limits()).nodes === 0, 30_000);
}

/** What the only node has. */
async function limits(): Promise<{ nodes: number }> {
  const answer = await ask(server, operatorToken(server), "GET", "/v1/nodes");
  const { nodes } = (await answer.json()) as { nodes: { sessions: number }[] };
  return { nodes: nodes.reduce((sum, node) => sum + node.sessions, 0) };
}

test("a game that runs already is had at once, and another one takes its place", async (t) => {
  const cold = await start(PROBE);
  await end(cold);
  const id = add(PROBE, 2);
  const full = await ready(id, 2);
  assert.equal(full.warmth, "running");
  assert.match(pool("list"), /2 of +2 ready/);
  const warm = await start(PROBE);
  assert.equal(warm.state, "ready", "it has its game with the very answer");
  t.diagnostic(`ready after ${Math.round(warm.milliseconds)} ms, without a pool after ${Math.round(cold.milliseconds)} ms`);
  assert.ok(warm.milliseconds < cold.milliseconds, `${warm.milliseconds} ms against ${cold.milliseconds} ms`);
  await ready(id, 2);
  const sessions = await ask(server, operatorToken(server), "GET", "/v1/sessions");
  const list = ((await sessions.json()) as { sessions: { id: string }[] }).sessions.map((one) => one.id);
  assert.deepEqual(list.toSorted(), [cold.id, warm.id].toSorted(), "what nobody plays is no session of anybody's");
  await end(warm);
  await remove(id);
});

test("a page plays what was kept ready, with the player's own save", async () => {
  const id = add(DOOM, 1);
  assert.equal((await ready(id, 1)).warmth, "prepared");
  const page: Page = await openPlay(browser, kite, DOOM, PICTURE);
  await playing(page);
  await ready(id, 1);
  await leave(page);
  await remove(id);
});

test("nobody waits beside an instance that nobody has", async () => {
  const id = add(PROBE, PLACES);
  await ready(id, PLACES);
  // Another game, which needs the places of what is kept.
  const others: Started[] = [];
  for (let count = 0; count < PLACES; count += 1) others.push(await start(DOOM));
  const short = await until("a reason", async () => (await pools()).find((one) => one.hindered !== undefined), 30_000);
  assert.equal(short.ready, 0);
  assert.match(short.hindered ?? "", /full|places|others/);
  for (const other of others) await end(other);
  await ready(id, PLACES);
  pool("resize", id, "--size", "1");
  await ready(id, 1);
  await remove(id);
});
