/** Two sites with a node each, and a way to each of them that can be made bad: players measure, and play at the nearer one. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync, rmSync } from "node:fs";
import { after, afterEach, before, beforeEach, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { startFleet } from "../lib/fleet.ts";
import type { Fleet } from "../lib/fleet.ts";
import { impair } from "../lib/impair.ts";
import type { Impairment } from "../lib/impair.ts";
import { newDirectory, probePackage } from "../lib/kite.ts";
import { leave, openPlay, playing } from "../lib/play.ts";
import { until } from "../lib/programs.ts";

const SITES = ["oslo", "rome"] as const;
type Site = (typeof SITES)[number];

/** There and back 60 ms more, and each direction loses one of twenty. */
const BAD = "both delay=30 loss=0.05 cut=0";
const GOOD = "both delay=0 loss=0 cut=0";

/** What this machine adds by itself when it is busy: a browser and two nodes on a few processors. */
const BUSY_MS = 60;

/** How long a measurement may take that nobody waits for, with what a busy machine adds. */
const MEASURED_WITHIN_MS = 5_500;

interface Probe {
  readonly site: Site;
  readonly round_trip_us: number;
  readonly loss_permille: number;
}

interface Said extends Partial<Probe> {
  readonly site: Site;
  readonly verdict: string;
}

let fleet: Fleet;
let browser: Browser;
/** Of each site: of its session's port and of its echo's. */
const ways = new Map<Site, readonly Impairment[]>();
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-x11", directory);
  browser = await launchChromium();
  fleet = await startFleet([directory], SITES.length, { sites: SITES, withWay: true });
  for (const [index, site] of SITES.entries()) {
    const ports = fleet.nodes[index]?.way ?? [];
    ways.set(site, await Promise.all(ports.map(({ from, to }, port) => impair(from, to, "", 10 * index + port))));
  }
  await until("both sites can be measured", async () => (await listed()).length === SITES.length);
});

after(async () => {
  await browser?.close();
  for (const way of [...ways.values()].flat()) way.stop();
  await fleet?.stop();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(() => {
  for (const site of SITES) become(site, GOOD);
});

afterEach(async () => {
  // What a test that failed left is given back before the next one.
  for (const context of browser.contexts()) await context.close();
  await until("all places are free", async () => {
    const { nodes } = (await fleet.ask("GET", "/v1/nodes")) as { nodes: { sessions: number }[] };
    return nodes.every(({ sessions }) => sessions === 0);
  }, 30_000);
});

function become(site: Site, conditions: string): void {
  for (const way of ways.get(site) ?? []) way.set(conditions);
}

async function listed(): Promise<readonly string[]> {
  const { sites } = (await (await fetch(`${fleet.base}/v1/sites`)).json()) as { sites: { name: string }[] };
  return sites.map(({ name }) => name);
}

/** Opens the game's own page, reads for a moment, presses play; what the client measured and what the sites said. */
async function play(): Promise<{ page: Page; probes: readonly Probe[]; said: readonly Said[]; waitedMs: number }> {
  const context = await browser.newContext({ viewport: { width: 640, height: 360 } });
  const page = await context.newPage();
  const measures = page.waitForRequest((request) => request.url().endsWith("/probe"));
  await page.goto(`${fleet.base}/play/probe-x11`);
  await measures;
  await page.waitForTimeout(MEASURED_WITHIN_MS);
  const asked = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/v1/sessions"));
  const pressed = performance.now();
  await page.getByRole("button", { name: "Play" }).click();
  const { probes = [] } = (await asked).postDataJSON() as { probes?: readonly Probe[] };
  const waitedMs = performance.now() - pressed;
  await playing(page);
  return { page, probes, said: await sites(page), waitedMs };
}

async function sessionOf(page: Page): Promise<string> {
  const stored = await page.evaluate<string | null>('sessionStorage.getItem("kite.session.probe-x11")');
  return (JSON.parse(stored ?? "{}") as { id: string }).id;
}

async function sites(page: Page): Promise<readonly Said[]> {
  const placement = (await fleet.ask("GET", `/v1/sessions/${await sessionOf(page)}/placement`)) as { node: string; sites: readonly Said[] };
  const index = fleet.nodes.findIndex((node) => node.id === placement.node);
  assert.equal(placement.sites.find(({ verdict }) => verdict === "chosen")?.site, SITES[index], "the chosen site is the node's");
  return placement.sites;
}

const of = <Entry extends { readonly site: Site }>(entries: readonly Entry[], site: Site): Entry =>
  entries.find((entry) => entry.site === site) ?? assert.fail(`nothing of ${site}: ${JSON.stringify(entries)}`);

for (const [near, far] of [SITES, [...SITES].reverse() as [Site, Site]] as const) {
  test(`where the way to ${far} is long and loses, ${near} is played`, async () => {
    become(far, BAD);
    const { page, probes, said, waitedMs } = await play();
    console.log(JSON.stringify(probes), `asked ${Math.round(waitedMs)} ms after the button`);
    const [good, bad] = [of(probes, near), of(probes, far)];
    assert.ok(good.round_trip_us < BUSY_MS * 1000, "nothing is added on the good way");
    assert.equal(good.loss_permille, 0);
    assert.ok(bad.round_trip_us >= 60_000 && bad.round_trip_us < (60 + BUSY_MS) * 1000, "60 ms are added on the bad one");
    // Of forty messages 98 in a thousand are lost there and back; one lost one is not counted.
    assert.ok(bad.loss_permille <= 300, `${bad.loss_permille}`);
    assert.equal(of(said, near).verdict, "chosen");
    assert.equal(of(said, far).verdict, "worse");
    for (const probe of probes) {
      const { round_trip_us, loss_permille } = of(said, probe.site);
      assert.deepEqual({ round_trip_us, loss_permille }, { round_trip_us: probe.round_trip_us, loss_permille: probe.loss_permille });
    }
    assert.ok(waitedMs < 1_000, "what was measured before makes nobody wait");
    await leave(page);
  });
}

test("a site that cannot be reached is left out, and nobody waits long for it", async () => {
  become("oslo", "both cut=1");
  const { page, probes, said } = await play();
  assert.deepEqual(probes.map(({ site }) => site), ["rome"]);
  assert.equal(of(said, "rome").verdict, "chosen");
  await leave(page);
  // Straight into the game: the measurement is waited for, and its limit holds.
  const began = performance.now();
  const straight = await openPlay(browser, fleet, "probe-x11", { width: 640, height: 360, framesPerSecond: 30 });
  await straight.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/v1/sessions"));
  const askedMs = performance.now() - began;
  console.log(`a session was asked for after ${Math.round(askedMs)} ms`);
  assert.ok(askedMs < 4_500, `${askedMs} ms`);
  await playing(straight);
  assert.equal(of(await sites(straight), "rome").verdict, "chosen");
  await leave(straight);
});

test("the operator reads how far it is, and an echo that dies comes back", async () => {
  become("rome", BAD);
  const { page } = await play();
  const shown = fleet.kite("session", "show", await sessionOf(page));
  assert.match(shown, /site oslo: it is here \(\d+\.\d ms there and back, as his client measured\)/);
  assert.match(shown, /site rome: a better place was found elsewhere \(score \d+\) \((6|7|8|9|10|11)\d\.\d ms there and back/);
  await leave(page);
  const echoes = (): number[] =>
    readdirSync("/proc").filter((pid) => /^\d+$/.test(pid)).map(Number).filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, "utf8") === "kite-echo\n" && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
      } catch {
        return false;
      }
    });
  const before = echoes().filter((pid) => spawnSync("ip", ["netns", "identify", `${pid}`], { encoding: "utf8" }).stdout.startsWith("kite-test"));
  assert.equal(before.length, 2, "one a node");
  for (const pid of before) process.kill(pid, "SIGKILL");
  await until("nothing can be measured", async () => (await listed()).length === 0);
  await until("both sites can be measured again", async () => (await listed()).length === 2, 20_000);
});
