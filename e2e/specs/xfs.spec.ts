/** Volume and instances in a file with XFS: a game's first write to a large file copies nothing, and the mount outlives kills. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, rmSync, statfsSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { newDirectory, startKite, WIDE_LIMITS } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { until } from "../lib/programs.ts";
import { begin, finish, newPlayer, push, scripted } from "../lib/saves.ts";
import type { Server } from "../lib/saves.ts";

const PAYLOAD_BYTES = 96 << 20;
const PLAYS = 3;

/** Mounting takes root: nobody else can have such an image, and Kite says so. */
const skip = process.getuid?.() === 0 ? false : "only root can mount a file system";

const directory = newDirectory("kite-spec-");
const none = newDirectory("kite-spec-none-");
const storage = join(directory, "data");
const site = join(storage, "site");
let kite: Kite | undefined;
/** Runtime directories of installations that were killed and could not remove them. */
const left: string[] = [];

async function up(gigabytes: number): Promise<Server> {
  const config = `${WIDE_LIMITS}connect_timeout_s = 300\n[volume]\nxfs_gb = ${gigabytes}\n`;
  kite = await startKite({ games: [none], sessions: PLAYS + 1, storage, config });
  return { base: kite.base, storage };
}

/** Waits until the machine is there: the API answers before it. */
async function node(server: Server): Promise<void> {
  await until("the machine is there", async () => {
    const health = (await (await fetch(`${server.base}/healthz`)).json()) as { status: string };
    return health.status === "ok";
  });
}

function usedBytes(): number {
  const { blocks, bfree, bsize } = statfsSync(site);
  return (blocks - bfree) * bsize;
}

function isMounted(): boolean {
  return statSync(site).dev !== statSync(storage).dev;
}

/** The payload as each running instance has it; none where it has not written there yet. */
function writtenTo(): string[] {
  const instances = join(site, "instances");
  return readdirSync(instances).map((id) => join(instances, id, "layer", "upper", "payload")).filter((path) => existsSync(path));
}

before(() => {
  const package_ = scripted(directory, "appender", 'printf x >> "$base/payload"', "");
  writeFileSync(join(package_, "payload"), randomBytes(PAYLOAD_BYTES));
});

after(async () => {
  await kite?.stop();
  for (const path of [directory, none, ...left]) rmSync(path, { recursive: true, force: true });
});

test("a first write to a large file copies nothing", { skip }, async () => {
  const server = await up(1);
  await node(server);
  assert.ok(isMounted());
  push(server, join(directory, "appender"));
  const player = await newPlayer(server);
  await finish(server, await begin(server, player, "appender"));
  const before = usedBytes();
  const running = [];
  for (let play = 0; play < PLAYS; play += 1) running.push(await begin(server, await newPlayer(server), "appender"));
  await until("all have written", () => writtenTo().length === PLAYS);
  for (const path of writtenTo()) assert.equal(statSync(path).size, PAYLOAD_BYTES + 1);
  const taken = usedBytes() - before;
  assert.ok(taken < PAYLOAD_BYTES / 4, `${taken} bytes for ${PLAYS} changed files of ${PAYLOAD_BYTES}`);
  for (const session of running) await finish(server, session);
});

test("the mount outlives a kill, goes with a stop, and grows", { skip }, async () => {
  assert.ok(kite);
  const { program, data } = kite;
  process.kill(program.pid, "SIGKILL");
  await until("the killed service is gone", () => program.exitCode() !== null);
  left.push(data);
  assert.ok(isMounted());
  const server = await up(1);
  await node(server);
  await finish(server, await begin(server, await newPlayer(server), "appender"));
  const small = statfsSync(site).blocks;
  await kite.stop();
  assert.ok(!isMounted());

  await up(2);
  await until("it has grown", () => isMounted() && statfsSync(site).blocks > small * 1.8);
  await kite.stop();

  // As a start leaves it that was cut off between the file's growth and the file system's.
  truncateSync(join(storage, "site.xfs"), 3 * 2 ** 30);
  await up(3);
  await until("it has grown all the same", () => isMounted() && statfsSync(site).blocks > small * 2.7);
  await kite.stop();

  await up(1).catch(() => undefined);
  const refused = kite.program;
  await until("it ends", () => refused.exitCode() !== null);
  assert.match(refused.output(), /cannot become smaller/);
  kite = undefined;
});
