/** Several players at once: nobody sees another's input, tokens open only their own session. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, beforeEach, test } from "node:test";

import type { Browser } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, probePackage, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { cleanSlate, openPlay, playing } from "../lib/play.ts";
import { PROBE_KEY, probeScript, toggles } from "../lib/probe.ts";
import { until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-x11", directory);
  probePackage("probe-wayland", directory);
  kite = await startKite({ games: [directory], sessions: 4 });
  browser = await launchChromium();
});

beforeEach(() => cleanSlate(browser, kite));

after(async () => {
  await browser?.close();
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

test("two players play two games at once without seeing each other's input", async () => {
  const script = await probeScript();
  const small = { width: 640, height: 360, framesPerSecond: 30, script };
  const [first, second] = await Promise.all([
    openPlay(browser, kite, "probe-x11", small),
    openPlay(browser, kite, "probe-wayland", small),
  ]);
  for (const page of [first, second]) {
    await playing(page);
    await until("a readable strip", async () => (await toggles(page)) >= 0);
  }
  const began = [await toggles(first), await toggles(second)];
  for (let press = 0; press < 4; press++) {
    await first.keyboard.press(PROBE_KEY.code);
    await first.waitForTimeout(150);
  }
  await second.keyboard.press(PROBE_KEY.code);
  await until("four toggles of the first", async () => (await toggles(first)) === (began[0] ?? 0) + 4);
  await until("one toggle of the second", async () => (await toggles(second)) === (began[1] ?? 0) + 1);
  await first.waitForTimeout(500);
  assert.deepEqual([await toggles(first), await toggles(second)], [(began[0] ?? 0) + 4, (began[1] ?? 0) + 1]);
  for (const page of [first, second]) await page.context().close();
});

interface Created {
  readonly session: { readonly id: string };
  readonly token: string;
  readonly whep: string;
}

async function create(body: unknown = { app: "probe-x11" }): Promise<Response> {
  return fetch(`${kite.base}/v1/sessions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** A session; places of earlier tests may still be on their way back. */
async function created(): Promise<Created> {
  const response = await until("a free place", async () => {
    const response = await create();
    return response.ok ? response : undefined;
  });
  return (await response.json()) as Created;
}

/** A refusal is a problem document with a status, a kind and a sentence. */
async function refused(response: Response, status: number): Promise<{ type: string; detail: string }> {
  const text = await response.text();
  assert.equal(response.status, status, text);
  assert.match(response.headers.get("content-type") ?? "", /^application\/problem\+json/);
  const problem = JSON.parse(text) as { type: string; detail: string };
  assert.ok(problem.detail.length > 10, text);
  return problem;
}

test("wrong, foreign and missing tokens open nothing", async () => {
  const [mine, foreign] = [await created(), await created()];
  const path = `${kite.base}/v1/sessions/${mine.session.id}`;
  const get = (authorization?: string): Promise<Response> => fetch(path, authorization ? { headers: { authorization } } : {});
  await refused(await get(), 401);
  await refused(await get("Bearer nonsense"), 401);
  const stolen = await get(`Bearer ${foreign.token}`);
  assert.ok([401, 403, 404].includes(stolen.status), `${stolen.status}`);
  assert.equal((await get(`Bearer ${mine.token}`)).status, 200);
  const offer = await fetch(`${kite.base}${mine.whep}`, {
    method: "POST",
    headers: { "content-type": "application/sdp", authorization: `Bearer ${foreign.token}` },
    body: "v=0\r\n",
  });
  assert.ok([401, 403, 404].includes(offer.status), `${offer.status}`);
  const removal = await fetch(path, { method: "DELETE", headers: { authorization: `Bearer ${foreign.token}` } });
  assert.ok([401, 403, 404].includes(removal.status), `${removal.status}`);
  for (const created of [mine, foreign]) {
    await fetch(`${kite.base}/v1/sessions/${created.session.id}`, {
      method: "DELETE",
      headers: { authorization: `Bearer ${created.token}` },
    });
  }
});

test("unknown apps, specs out of range and garbage are refused with a sentence", async () => {
  await refused(await create({ app: "no-such-game" }), 404);
  const spec = { width: 100_000, height: 720, frames_per_second: 60 };
  const outOfRange = await refused(await create({ app: "probe-x11", spec }), 422);
  assert.match(outOfRange.detail, /width/);
  const nonsense = await create({ app: "probe-x11", nonsense: 1 });
  assert.ok([400, 422].includes(nonsense.status), `${nonsense.status}`);
  const huge = await create({ app: "x".repeat(1_000_000) });
  assert.ok([400, 413, 422].includes(huge.status), `${huge.status}`);
});

test("garbage offers are refused, and the session can still be played", async () => {
  const mine = await created();
  const authorization = `Bearer ${mine.token}`;
  for (const body of ["", "nonsense", "v=0\r\n".repeat(1000), "\u0000".repeat(100), "v".repeat(1_000_000)]) {
    const answer = await fetch(`${kite.base}${mine.whep}`, {
      method: "POST",
      headers: { "content-type": "application/sdp", authorization },
      body,
    });
    assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status} for ${body.length} bytes of garbage`);
  }
  const state = await fetch(`${kite.base}/v1/sessions/${mine.session.id}`, { headers: { authorization } });
  assert.equal(state.status, 200);
  assert.notEqual(((await state.json()) as { state: { state: string } }).state.state, "ended");
  await fetch(`${kite.base}/v1/sessions/${mine.session.id}`, { method: "DELETE", headers: { authorization } });
});
