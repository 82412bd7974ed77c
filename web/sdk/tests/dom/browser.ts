//! Real Chromium, the test server, and the two pages.

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { build } from "vite";
import type { Session } from "../../src/rest/types.js";
import { startServer, type TestServer, TestSession } from "./server.js";
import type {} from "./streamer-page.js";

const CHROMIUM = process.env["KITE_CHROMIUM"] ?? "/usr/bin/chromium";

export interface Bench {
  readonly browser: Browser;
  readonly server: TestServer;
  /** The streamer's tab. */
  readonly streamer: Page;
  newContext(options?: Parameters<Browser["newContext"]>[0]): Promise<BrowserContext>;
  close(): Promise<void>;
}

const page = (script: string): string =>
  `<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${script}</title><link rel="stylesheet" href="/page.css">` +
  `<div id="stage"></div><script type="module" src="/${script}.js"></script>`;

/** Builds the pages as an application would, minified, and starts everything. */
export async function startBench(roots: readonly string[] = []): Promise<Bench> {
  const root = await mkdtemp(join(tmpdir(), "kite-web-"));
  const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  await build({
    configFile: false,
    logLevel: "error",
    build: {
      target: "es2022",
      outDir: root,
      rollupOptions: {
        input: { player: here("player-page.ts"), streamer: here("streamer-page.ts") },
        output: { entryFileNames: "[name].js" },
      },
    },
  });
  await writeFile(join(root, "player.html"), page("player"));
  await writeFile(join(root, "streamer.html"), page("streamer"));
  await writeFile(
    join(root, "page.css"),
    "html, body, #stage { margin: 0; width: 100%; height: 100%; background: #000 }",
  );
  const server = await startServer([...roots, root]);
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--no-sandbox",
      "--disable-dev-shm-usage",
      "--autoplay-policy=document-user-activation-required",
      // The streamer in a tab has to tell its address, as the real one does; nobody resolves mDNS names here.
      "--disable-features=WebRtcHideLocalIpsWithMdns",
    ],
  });
  const streamer = await (await browser.newContext()).newPage();
  await streamer.goto(`${server.origin}/streamer.html`);
  server.answer = (sdp) => streamer.evaluate((offer) => window.streamer.answer(offer), sdp);
  return {
    browser,
    server,
    streamer,
    newContext: (options) => browser.newContext(options),
    async close() {
      await browser.close();
      await server.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** A session on the test server, ready to be played. */
export function makeSession(server: TestServer, spec: Partial<Session["spec"]> = {}): TestSession {
  const session = new TestSession("probe", { width: 1280, height: 720, frames_per_second: 60, ...spec });
  server.sessions.set(session.session.id, session);
  return session;
}

/** Asks until it is so; says what was last seen when it never was. */
export async function until<Value>(
  ask: () => Promise<Value> | Value,
  isSo: (value: Value) => boolean,
  timeoutMs = 10_000,
): Promise<Value> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await ask();
    if (isSo(value)) return value;
    if (Date.now() > deadline) throw new Error(`never came true; last seen: ${JSON.stringify(value)}`);
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}
