/** What every test of a play needs: a page that plays, its picture, its sound, keys. */

import type { Browser, BrowserContext, Page } from "playwright-core";

import { NAME_HELPER } from "./browser.ts";
import type { Kite } from "./kite.ts";
import { holdings } from "./leaks.ts";
import { difference, pictureOf } from "./picture.ts";
import type { Evaluating, Picture } from "./picture.ts";
import { until } from "./programs.ts";

/** How a game is opened. */
export interface PlayOptions {
  readonly width?: number;
  readonly height?: number;
  readonly framesPerSecond?: number;
  /** False lets the stream follow the window's size. */
  readonly fixed?: boolean;
  readonly viewport?: { readonly width: number; readonly height: number };
  /** Runs in the page before anything else. */
  readonly script?: string;
  /** What an earlier page's browser kept, and with it who the player is: `page.context().storageState()`. */
  readonly kept?: Awaited<ReturnType<BrowserContext["storageState"]>>;
}

/** A page of its own (cookies, storage) on which a game is being started. */
export async function openPlay(browser: Browser, kite: Pick<Kite, "base">, app: string, options: PlayOptions = {}): Promise<Page> {
  const { width = 1280, height = 720, framesPerSecond = 60, fixed = true } = options;
  const context = await browser.newContext({
    viewport: options.viewport ?? { width, height },
    ...(options.kept ? { storageState: options.kept } : {}),
  });
  await context.addInitScript({ content: NAME_HELPER });
  const page = await context.newPage();
  if (options.script !== undefined) await page.addInitScript({ content: options.script });
  const size = fixed ? `&width=${width}&height=${height}` : "";
  await page.goto(`${kite.base}/play/${app}?autostart=1${size}&fps=${framesPerSecond}`);
  return page;
}

/** The player leaves, as by the page's own button, and the page goes. */
export async function leave(page: Page): Promise<void> {
  await page.evaluate("window.kitePlayer?.leave()");
  await page.locator('[data-state="ended"], [data-state="refused"]').waitFor({ timeout: 10_000 });
  await page.context().close();
}

/** Closes what an earlier test left open, and waits until the installation runs no instance. */
export async function cleanSlate(browser: Browser, kite: Kite): Promise<void> {
  for (const context of browser.contexts()) {
    for (const page of context.pages()) await leave(page).catch(() => undefined);
    await context.close();
  }
  const instances = (): string[] =>
    holdings(kite.program.pid, kite.data).processes.filter((line) => !line.startsWith(`${kite.program.pid} `));
  await until("an installation without instances", () => instances().length === 0, 30_000).catch(() => {
    throw new Error(`instances that do not end: ${instances().join(", ")}`);
  });
}

/** Waits until the page plays and shows a picture that is not black all over. */
export async function playing(page: Page, timeoutMs = 30_000): Promise<Picture> {
  await until(
    "pictures",
    async () => {
      const place = page.locator("[data-state]");
      const [state, reason] = (await place.count()) > 0 ? [await place.getAttribute("data-state"), await place.getAttribute("data-reason")] : [];
      if (state === "ended" || state === "refused") throw new Error(`${state}, ${reason}: ${await place.innerText()}`);
      return state === "playing";
    },
    timeoutMs,
  ).catch(async (error: unknown) => {
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nthe page says: ${await page.locator("body").innerText()}`);
  });
  return until("a picture", async () => {
    const picture = await pictureOf(page);
    return picture && picture.rgb.some((value) => value > 24) ? picture : undefined;
  });
}

/** The picture now; throws when there is none. */
export async function look(page: Page): Promise<Picture> {
  const picture = await pictureOf(page);
  if (!picture) throw new Error("the page shows no picture");
  return picture;
}

/** Waits until the picture differs from `reference` by more than `threshold` a channel. */
export async function changed(page: Page, reference: Picture, threshold: number, timeoutMs = 10_000): Promise<Picture> {
  return until(
    `a picture that differs by ${threshold}`,
    async () => {
      const picture = await look(page);
      return difference(reference, picture) > threshold ? picture : undefined;
    },
    timeoutMs,
  );
}

/** How much the picture changes by itself within `spanMs`: the largest of a few looks. */
export async function restlessness(page: Page, spanMs = 1000): Promise<number> {
  const reference = await look(page);
  let largest = 0;
  for (const end = Date.now() + spanMs; Date.now() < end; ) {
    await page.waitForTimeout(100);
    largest = Math.max(largest, difference(reference, await look(page)));
  }
  return largest;
}

/** The reason and sentence of the end screen. */
export async function ended(page: Page, timeoutMs = 30_000): Promise<{ reason: string; text: string }> {
  const screen = page.locator('[data-state="ended"], [data-state="refused"]');
  await screen.waitFor({ timeout: timeoutMs });
  return { reason: (await screen.getAttribute("data-reason")) ?? "", text: await screen.innerText() };
}

/** Loudness of what the page plays, as root mean square of full scale, over `spanMs`. */
export async function loudness(page: Page, spanMs = 1000): Promise<number> {
  return page.evaluate(async (spanMs) => {
    const element = [...document.querySelectorAll("audio")].find((audio) => audio.srcObject instanceof MediaStream);
    if (!(element?.srcObject instanceof MediaStream)) throw new Error("the page has no sound element");
    const context = new AudioContext();
    await context.resume();
    const analyser = context.createAnalyser();
    analyser.fftSize = 2048;
    context.createMediaStreamSource(element.srcObject).connect(analyser);
    const block = new Float32Array(analyser.fftSize);
    let [sum, count] = [0, 0];
    for (const end = performance.now() + spanMs; performance.now() < end; ) {
      await new Promise((resolve) => setTimeout(resolve, 40));
      analyser.getFloatTimeDomainData(block);
      for (const sample of block) sum += sample * sample;
      count += block.length;
    }
    await context.close();
    return Math.sqrt(sum / count);
  }, spanMs);
}

/** What the page's statistics say; `undefined` while it does not play. */
export interface Statistics {
  readonly framesPerSecond: number;
  readonly bitrateKbps: number;
  readonly roundTripMs: number | null;
  readonly longestGapMs: number;
  readonly freezes: number;
  readonly codec: string | null;
  readonly picture: string | null;
  readonly latency: {
    readonly frameAgeMs: { readonly median: number; readonly p95: number } | null;
    readonly inputToPhotonMs: { readonly median: number } | null;
  };
  readonly stream: { readonly targetKbps: number } | null;
}

/** The player's own statistics. */
export async function statistics(page: Evaluating): Promise<Statistics | undefined> {
  return (await page.evaluate("window.kitePlayer?.statistics()")) as Statistics | undefined;
}
