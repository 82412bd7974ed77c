/**
 * Real processes of the control plane on PostgreSQL, killed with -9 at random moments, with simulated nodes and players over real sockets: no
 * place is given twice, none is lost, no session is stuck. `KITE_TEST_PLAYS` plays more, `KITE_TEST_SEED` repeats the moments.
 */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { test } from "node:test";

import { APP, startPlane } from "../lib/plane.ts";
import type { Plane, Replica } from "../lib/plane.ts";
import { until } from "../lib/programs.ts";
import { Random, testSeed } from "../lib/random.ts";
import { startSwarm } from "../lib/swarm.ts";
import type { Swarm, SwarmReport } from "../lib/swarm.ts";

const PLAYS = Number(process.env["KITE_TEST_PLAYS"] ?? 10_000);
const SEED = testSeed();
const [NODES, PLACES] = [40, 10];
/** Plays that begin each second, and how long one lasts: about two thirds of the places are taken, at times all. */
const [RATE, LIFE_MS] = [150, 2000];

async function swarmOf(plane: Plane): Promise<Swarm> {
  return startSwarm({
    urls: plane.replicas.map((replica) => replica.base),
    links: plane.replicas.map((replica) => replica.link),
    token: plane.token,
    app: APP,
    nodes: NODES,
    places: PLACES,
    startMs: 100,
  });
}

/** Nothing is left, nothing was there twice, and everybody came to an end. */
async function checkEnd(plane: Plane, swarm: Swarm, played: SwarmReport, plays: number): Promise<void> {
  assert.equal(played.violations, 0, played.told.join("\n"));
  assert.equal(played.began, plays);
  assert.equal(played.live, 0);
  // A request whose answer was lost left a session that nobody knows of: it ends when nobody comes.
  await until("the end of every session", () => plane.query("SELECT count(*) FROM session WHERE state <> 'ended'") === "0", 60_000, 250);
  const idle = await until("the end of every instance", async () => {
    const report = await swarm.ask("report");
    return report.instances === 0 ? report : undefined;
  }, 30_000, 250);
  assert.equal(idle.violations, 0, idle.told.join("\n"));
  assert.equal(idle.nodes, NODES);
  // What it counts in memory is what the database has.
  const limits = (await (await fetch(`${plane.replicas[0]?.base}/v1/limits`)).json()) as Record<string, number>;
  assert.deepEqual([limits["sessions_used"], limits["sessions_waiting"]], [0, 0]);
  const reasons = plane.query("SELECT reason, count(*) FROM session GROUP BY reason ORDER BY 2 DESC").replaceAll("\n", ", ");
  console.log(`${plays} plays, ${idle.instances_started} instances; ends: ${reasons}; claims: ${JSON.stringify(played.claim_ms)}`);
  const [ended = 0] = [Number(plane.query("SELECT count(*) FROM session"))];
  assert.ok(ended >= plays, `${ended} sessions of ${plays} plays`);
  // The control plane is not what ended them.
  const ours = plane.query("SELECT count(*) FROM session WHERE reason IN ('node_lost', 'service_restarted', 'no_place')");
  assert.equal(ours, "0", reasons);
}

/** Kills a process at random moments for as long as it is told to; how often. */
async function killAtRandom(next: Random, pick: () => Replica, goesOn: () => boolean, downMs: () => number): Promise<number> {
  let kills = 0;
  while (goesOn()) {
    await sleep(500 + next.below(5000));
    if (!goesOn()) break;
    const replica = pick();
    await replica.kill();
    await sleep(downMs());
    await replica.start();
    kills += 1;
  }
  return kills;
}

test(`${PLAYS} plays while the control plane is killed again and again (seed ${SEED})`, { timeout: 1_800_000 }, async () => {
  const plane = await startPlane();
  try {
    const swarm = await swarmOf(plane);
    const next = new Random(SEED);
    let goesOn = true;
    const only = plane.replicas[0] as Replica;
    const killing = killAtRandom(next, () => only, () => goesOn, () => 0);
    const played = await swarm.ask("run", PLAYS, RATE, LIFE_MS);
    goesOn = false;
    const kills = await killing;
    console.log(`killed ${kills} times`);
    assert.ok(kills >= PLAYS / 1000, `only ${kills} kills`);
    await checkEnd(plane, swarm, played, PLAYS);
    swarm.stop();
  } finally {
    await plane.stop();
  }
});

test("of three replicas any serves, and another leads within seconds when one is killed", { timeout: 600_000 }, async () => {
  const plays = Math.max(500, Math.round(PLAYS / 5));
  const plane = await startPlane(3);
  try {
    const swarm = await swarmOf(plane);
    const next = new Random(SEED + 1);
    const leader = (): Replica => {
      const address = plane.query("SELECT address FROM leadership");
      return plane.replicas.find((replica) => replica.base.endsWith(address)) ?? (plane.replicas[0] as Replica);
    };
    let goesOn = true;
    const killing = (async (): Promise<readonly number[]> => {
      const took: number[] = [];
      while (goesOn) {
        await sleep(1000 + next.below(3000));
        if (!goesOn) break;
        const gone = leader();
        await gone.kill();
        const began = performance.now();
        const others = plane.replicas.filter((replica) => replica !== gone);
        await until("another leader", async () => {
          const answers = await Promise.all(others.map(async (other) => (await fetch(`${other.base}/v1/limits`).catch(() => undefined))?.ok));
          return answers.every((ok) => ok === true);
        }, 20_000, 10);
        took.push(performance.now() - began);
        await gone.start();
      }
      return took;
    })();
    const played = await swarm.ask("run", plays, RATE / 2, LIFE_MS);
    goesOn = false;
    const took = (await killing).map(Math.round);
    console.log(`another one led after ${took.join(", ")} ms`);
    assert.ok(took.length >= 2, `only ${took.length} kills`);
    assert.ok(Math.max(...took) < 10_000);
    await checkEnd(plane, swarm, played, plays);
    swarm.stop();
  } finally {
    await plane.stop();
  }
});
