/** A hundred sessions in a row leave nothing: no process, mount, control group, socket, file, nor memory. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, test } from "node:test";

import { newDirectory, probePackage, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { descriptors, holdings, leaks } from "../lib/leaks.ts";
import { until } from "../lib/programs.ts";
import { play } from "../lib/session.ts";

const SESSIONS = 100;
/** The first sessions fill caches (connections, allocator, database pages), which is no leak. */
const WARM_UP = 10;

let kite: Kite;
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-x11", directory);
  probePackage("probe-wayland", directory);
  kite = await startKite({ games: [directory], sessions: 2 });
});

after(async () => {
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function once(round: number): Promise<void> {
  const format = { width: 640, height: 360, framesPerSecond: 30 };
  const session = await play(kite.base, round % 2 === 0 ? "probe-wayland" : "probe-x11", format);
  await until("media", () => session.seconds.some((second) => second.frames > 0) || session.failure(), 15_000, 20);
  assert.equal(session.failure(), undefined);
  await session.stop();
}

test(`${SESSIONS} sessions in a row leave nothing`, { timeout: 20 * 60_000 }, async () => {
  for (let round = 0; round < WARM_UP; round++) await once(round);
  const idle = (): boolean => holdings(kite.program.pid, kite.data).processes.length <= 1;
  await until("the installation is idle", idle, 15_000);
  const before = holdings(kite.program.pid, kite.data);
  for (let round = 0; round < SESSIONS; round++) await once(round);
  const now = (): string[] => leaks(before, holdings(kite.program.pid, kite.data));
  await until("everything is given back", () => now().length === 0, 20_000).catch(() => {
    assert.deepEqual(now(), [], descriptors(kite.program.pid).join("\n"));
  });
});
