/** Three nodes in network namespaces: full sites, a node that dies, a node that is cut off, a control plane that starts again. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, test } from "node:test";

import type { Browser, Page } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { startFleet } from "../lib/fleet.ts";
import type { Fleet, FleetNode } from "../lib/fleet.ts";
import { newDirectory, probePackage } from "../lib/kite.ts";
import { leave, openPlay, playing } from "../lib/play.ts";
import { PROBE_KEY, probeScript, toggles } from "../lib/probe.ts";
import { until } from "../lib/programs.ts";

/** How soon a player is back in the game after his node is gone. */
const BACK_MS = 10_000;

let fleet: Fleet;
let browser: Browser;
const directory = newDirectory("kite-spec-");
const small = { width: 640, height: 360, framesPerSecond: 30 };

before(async () => {
  probePackage("probe-x11", directory);
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  rmSync(directory, { recursive: true, force: true });
});

async function withFleet(use: () => Promise<void>): Promise<void> {
  fleet = await startFleet([directory], 3);
  try {
    await use();
  } finally {
    for (const context of browser.contexts()) await context.close();
    await fleet.stop();
  }
}

async function open(): Promise<Page> {
  const page = await openPlay(browser, fleet, "probe-x11", { ...small, script: await probeScript() });
  await playing(page);
  return page;
}

interface Placement {
  readonly node?: string;
  readonly epoch: number;
}

async function placement(page: Page): Promise<Placement> {
  const stored = await page.evaluate<string | null>('sessionStorage.getItem("kite.session.probe-x11")');
  const { id } = JSON.parse(stored ?? "{}") as { id: string };
  return (await fleet.ask("GET", `/v1/sessions/${id}/placement`)) as Placement;
}

async function nodeOf(page: Page): Promise<FleetNode> {
  const { node } = await placement(page);
  return fleet.nodes.find((one) => one.id === node) ?? assert.fail(`on no node: ${node}`);
}

async function presses(page: Page): Promise<void> {
  await until("a readable strip", async () => (await toggles(page)) >= 0);
  const began = await toggles(page);
  await page.keyboard.press(PROBE_KEY.code);
  await until("the game hears its player", async () => (await toggles(page)) === began + 1);
}

test("three nodes are filled, the fourth player waits and plays when one leaves", () =>
  withFleet(async () => {
    const pages = [await open(), await open(), await open()];
    const places = new Set(await Promise.all(pages.map(async (page) => (await nodeOf(page)).id)));
    assert.equal(places.size, 3, "each on a node of its own");
    const fourth = await openPlay(browser, fleet, "probe-x11", small);
    await fourth.locator('.kite-queue-place:has-text("1")').waitFor({ timeout: 15_000 });
    assert.match((await fourth.locator(".kite-screen").textContent()) ?? "", /You are next\. It will take/);
    await leave(pages[0] as Page);
    await playing(fourth);
  }));

/** What happens to the player of a node to which this is done. */
async function survives(what: (node: FleetNode) => void): Promise<void> {
  await withFleet(async () => {
    const page = await open();
    await presses(page);
    const [node, before] = [await nodeOf(page), await toggles(page)];
    const began = performance.now();
    what(node);
    await until("another start of the game", async () => (await placement(page)).epoch === 2, BACK_MS);
    await page.locator('[data-state="playing"]').waitFor({ timeout: BACK_MS });
    // The old picture stays until then. A game that has just begun counts from 0 again, which is one step back of 256.
    await until("the picture of the new start", async () => (await toggles(page)) === before + 255, BACK_MS);
    await presses(page);
    const tookMs = performance.now() - began;
    console.log(`back in the game after ${Math.round(tookMs)} ms`);
    assert.notEqual((await nodeOf(page)).id, node.id);
    assert.ok(tookMs < BACK_MS, `${tookMs} ms`);
  });
}

test("the player of a node that dies is back in the game on another one", () => survives((node) => node.kill()));

test("the player of a node that is cut off is back in the game on another one", () => survives((node) => node.cut()));

test("the control plane is killed and starts again, and no stream stops", () =>
  withFleet(async () => {
    const page = await open();
    await presses(page);
    const states: string[] = [];
    await page.exposeFunction("sawState", (name: string) => states.push(name));
    await page.evaluate('window.kitePlayer.on("state", (state) => window.sawState(state.name))');
    const tookMs = await fleet.restartControl();
    console.log(`the control plane was away for ${Math.round(tookMs)} ms`);
    await presses(page);
    await until("all nodes are back", async () => {
      const { nodes } = (await fleet.ask("GET", "/v1/nodes")) as { nodes: { health: string }[] };
      return nodes.every((node) => node.health === "alive") ? true : undefined;
    });
    await presses(page);
    assert.equal((await placement(page)).epoch, 1, "its game was never started again");
    assert.deepEqual(states, [], "the stream never stopped");
    // The control plane knows it again: it can still be left.
    await leave(page);
  }));
