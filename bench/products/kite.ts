/** Kite itself: `kite up` as it is shipped, its own page, the probe as a package. */

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { probePackage, startKite } from "e2e/lib/kite.ts";

import { inboundVideo, inboundVideoBytes } from "./traffic.ts";
import type { Display, Product, Running } from "./product.ts";

/** What is read of the SDK's `PlayerStatistics`. */
interface SdkStatistics {
  readonly picture: string | null;
  readonly decodeMs: number | null;
  readonly latency: {
    readonly frameAgeMs: { readonly median: number } | null;
    readonly inputToPhotonMs: { readonly median: number } | null;
    readonly legs: Readonly<Record<string, { readonly median: number }>> | null;
  };
}

/** Kite with a game of one of two kinds. */
export function kite(display: Display): Product {
  const probe = `probe-${display}` as const;
  return {
    name: display === "x11" ? "kite" : `kite-${display}`,
    display,
    async start(format, directory): Promise<Running> {
      const games = join(directory, "games");
      mkdirSync(games, { recursive: true });
      probePackage(probe, games);
      const installation = await startKite({ games: [games], log: join(directory, "kite.log") });
      const query = `autostart=1&width=${format.width}&height=${format.height}&fps=${format.framesPerSecond}`;
      return {
        url: `${installation.base}/play/${probe}?${query}`,
        roots: [installation.program.pid],
        displayNames: ["Xwayland", "Xvfb"],
        async prepare(page) {
          await page.locator('[data-state="playing"]').waitFor({ timeout: 20_000 });
        },
        async traffic(page) {
          return { bytes: await inboundVideoBytes(page), by: "inbound-rtp video of getStats" };
        },
        async ownFigures(page) {
          const statistics = (await page.evaluate(
            () => (window as { kitePlayer?: { statistics(): unknown } }).kitePlayer?.statistics(),
          )) as SdkStatistics | undefined;
          if (!statistics) return {};
          const { frameAgeMs, inputToPhotonMs, legs } = statistics.latency;
          const figures: Record<string, number> = {};
          const inbound = await inboundVideo(page);
          figures["decoded_fps"] = Math.max(0, ...inbound.map((entry) => Number(entry["framesPerSecond"] ?? 0)));
          if (statistics.decodeMs !== null) figures["decode_ms"] = statistics.decodeMs;
          if (frameAgeMs) figures["frame_age_ms"] = frameAgeMs.median;
          if (inputToPhotonMs) figures["input_to_photon_ms"] = inputToPhotonMs.median;
          for (const [leg, summary] of Object.entries(legs ?? {})) figures[leg.replace(/Ms$/, "_ms")] = summary.median;
          return figures;
        },
        stop: () => installation.stop(),
      };
    },
  };
}
