/** The replica that leads loses its network and knows nothing of it: another leads, nothing is decided twice, and no stream stops. */

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Server } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { Bridge } from "../lib/bridge.ts";
import { launchChromium } from "../lib/browser.ts";
import { run } from "../lib/disk.ts";
import { ROOT, WIDE_LIMITS, binary, newDirectory, probePackage } from "../lib/kite.ts";
import { leave, openPlay, playing } from "../lib/play.ts";
import { startPostgres } from "../lib/postgres.ts";
import type { Postgres } from "../lib/postgres.ts";
import { PROBE_KEY, probeScript, toggles } from "../lib/probe.ts";
import { start, until } from "../lib/programs.ts";
import type { Program } from "../lib/programs.ts";

const REPLICAS = ["kite-cut-1", "kite-cut-2"];
const [HTTP, LINK] = [8080, 7443];
/** How soon another one leads: the database's server gives up who is silent after 5 to 10 s. */
const MOVES_WITHIN_MS = 30_000;

const directory = newDirectory("kite-cutoff-");
const bridge = new Bridge("kite-cut", "10.91.78", REPLICAS);
const secrets = join(directory, "secrets");
let postgres: Postgres;
let browser: Browser;
let replicas: Program[];
let node: Program;
let front: Server;
let frontPort: number;

function startReplica(index: number): Program {
  const address = bridge.address(index);
  return start({
    name: `kite control ${index}`,
    command: "ip",
    arguments: [
      "netns", "exec", REPLICAS[index] ?? "", binary("kite"), "control",
      `--listen=${address}:${HTTP}`,
      `--nodes=${address}:${LINK}`,
      `--replica=${address}:${HTTP}`,
      `--data=${join(directory, `control-${index}`)}`,
      `--secrets=${secrets}`,
      `--config=${join(directory, "config.toml")}`,
      `--web=${join(ROOT, "web", "app", "dist")}`,
      `--games=${join(directory, "games")}`,
    ],
    log: join(directory, `control-${index}-${Date.now()}.log`),
  });
}

/** What stands in front of replicas: it sends everybody to the first one that answers. */
async function startFront(): Promise<Server> {
  const server = createServer((client) => {
    const target = connect(HTTP, bridge.address(healthy));
    for (const [one, other] of [[client, target], [target, client]] as const) {
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** The replica to which players are sent. */
let healthy = 1;

async function answers(index: number): Promise<boolean> {
  const reply = await fetch(`http://${bridge.address(index)}:${HTTP}/healthz`, { signal: AbortSignal.timeout(1000) }).catch(() => undefined);
  return reply?.ok === true;
}

function leader(): number {
  const address = postgres.query("SELECT address FROM leadership");
  return REPLICAS.findIndex((_, index) => address === `${bridge.address(index)}:${HTTP}`);
}

async function ask(path: string): Promise<unknown> {
  const token = readFileSync(join(secrets, "operator-token"), "utf8").trim();
  const response = await fetch(`http://127.0.0.1:${frontPort}${path}`, { headers: { authorization: `Bearer ${token}` }, signal: AbortSignal.timeout(5000) });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

async function presses(page: Page): Promise<void> {
  await until("a readable strip", async () => (await toggles(page)) >= 0);
  const began = await toggles(page);
  await page.keyboard.press(PROBE_KEY.code);
  await until("the game hears its player", async () => (await toggles(page)) === began + 1);
}

before(async () => {
  mkdirSync(join(directory, "games"));
  probePackage("probe-x11", join(directory, "games"));
  mkdirSync(secrets, { mode: 0o700 });
  postgres = await startPostgres(bridge.host);
  const store = join(directory, "store");
  writeFileSync(join(directory, "config.toml"), `${WIDE_LIMITS}\n[database]\nurl = "${postgres.url}"\n[store]\ndir = "${store}"\n`, { mode: 0o600 });
  replicas = [startReplica(0)];
  await until("the first replica", () => answers(0), 60_000);
  replicas.push(startReplica(1));
  await until("the second replica", () => answers(1), 60_000);
  assert.equal(leader(), 0);
  front = await startFront();
  const address = front.address();
  frontPort = typeof address === "object" && address ? address.port : 0;
  const token = run(binary("kite"), "fleet", "token", "--site=here", "--url", `http://${bridge.address(1)}:${HTTP}`, "--data", secrets);
  node = start({
    name: "kite node",
    command: binary("kite"),
    arguments: [
      "node",
      ...REPLICAS.map((_, index) => `--control=${bridge.address(index)}:${LINK}`),
      `--join=${token}`,
      `--data=${join(directory, "node")}`,
      `--runtime=${join(directory, "run")}`,
      `--config=${join(directory, "config.toml")}`,
      "--advertise=127.0.0.1",
      "--sessions=2",
    ],
    log: join(directory, "node.log"),
  });
  await until("the node is well", async () => isAlive(), 60_000);
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  front?.close();
  await node?.stop();
  for (const replica of replicas ?? []) await replica.stop();
  postgres?.stop();
  bridge.remove();
  rmSync(directory, { recursive: true, force: true });
});

async function isAlive(): Promise<boolean> {
  const { nodes } = (await ask("/v1/nodes").catch(() => ({ nodes: [] }))) as { nodes: { health: string }[] };
  return nodes.some(({ health }) => health === "alive");
}

interface Row {
  readonly id: string;
  readonly epoch: string;
}

function live(): Row[] {
  const rows = postgres.query("SELECT id, epoch FROM session WHERE state <> 'ended' ORDER BY id");
  return rows.split("\n").filter(Boolean).map((row) => {
    const [id = "", epoch = ""] = row.split("|");
    return { id, epoch };
  });
}

test("a leader that is cut off is followed by another one, and decides nothing when its network comes back", { timeout: 300_000 }, async () => {
  const small = { width: 640, height: 360, framesPerSecond: 30, script: await probeScript() };
  const kite = { base: `http://127.0.0.1:${frontPort}` };
  const page = await openPlay(browser, kite, "probe-x11", small);
  await playing(page);
  await presses(page);
  const states: string[] = [];
  await page.exposeFunction("sawState", (name: string) => states.push(name));
  await page.evaluate('window.kitePlayer.on("state", (state) => window.sawState(state.name))');
  const before = live();
  assert.equal(before.length, 1);

  const began = performance.now();
  bridge.cut(0);
  await presses(page);
  await until("another leader", () => leader() === 1, MOVES_WITHIN_MS);
  const led = performance.now() - began;
  await until("the node's link to it", isAlive, MOVES_WITHIN_MS);
  console.log(`another leads after ${Math.round(led)} ms, and has its node after ${Math.round(performance.now() - began)} ms`);
  await presses(page);
  const second = await openPlay(browser, kite, "probe-x11", small);
  await playing(second);

  bridge.join(0);
  await until("the end of the one that led", () => replicas[0]?.exitCode() !== null, MOVES_WITHIN_MS);
  assert.equal(leader(), 1);
  replicas[0] = startReplica(0);
  await until("the first replica, which passes on now", () => answers(0), 60_000);
  healthy = 0;
  await presses(page);
  await presses(second);
  assert.deepEqual(live().map(({ epoch }) => epoch), ["1", "1"], "no game was started again");
  assert.equal(live()[0]?.id, before[0]?.id);
  assert.deepEqual(states, [], "the stream never stopped");
  await leave(second);
  await leave(page);
  await until("both have ended", () => live().length === 0);
});
