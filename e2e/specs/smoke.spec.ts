/** The shortest way through the whole product: start, play the probe, press a key, leave, nothing is left. */

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, test } from "node:test";

import type { Browser } from "playwright-core";

import { launchChromium } from "../lib/browser.ts";
import { newDirectory, probePackage, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { holdings, isAlive, leaks } from "../lib/leaks.ts";
import { ended, openPlay, playing } from "../lib/play.ts";
import { PROBE_KEY, probeScript, toggles } from "../lib/probe.ts";
import { until } from "../lib/programs.ts";

let kite: Kite;
let browser: Browser;
const directory = newDirectory("kite-spec-");

before(async () => {
  probePackage("probe-x11", directory);
  probePackage("probe-wayland", directory);
  kite = await startKite({ games: [directory] });
  browser = await launchChromium();
});

after(async () => {
  await browser?.close();
  const pid = kite?.program.pid;
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
  if (pid !== undefined) assert.equal(isAlive(pid), false);
});

for (const app of ["probe-x11", "probe-wayland"]) {
  test(`${app}: a key press comes back as a toggle, and leaving leaves nothing`, async () => {
    const empty = holdings(kite.program.pid, kite.data);
    const page = await openPlay(browser, kite, app, { script: await probeScript() });
    const picture = await playing(page);
    assert.deepEqual([picture.width, picture.height], [1280, 720]);
    await until("a readable strip", async () => (await toggles(page)) >= 0);
    const before = await toggles(page);
    for (let press = 1; press <= 5; press++) {
      await page.keyboard.press(PROBE_KEY.code);
      await until(`toggle ${press}`, async () => (await toggles(page)) === before + press, 2000);
    }
    assert.equal(await toggles(page), before + 5, "no key was counted twice");

    await page.evaluate(() => (window as unknown as { kitePlayer: { leave(): void } }).kitePlayer.leave());
    assert.equal((await ended(page)).reason, "player_left");
    await page.context().close();
    await until("everything is given back", () => leaks(empty, holdings(kite.program.pid, kite.data)).length === 0, 10_000).catch(
      () => assert.deepEqual(leaks(empty, holdings(kite.program.pid, kite.data)), []),
    );
  });
}
