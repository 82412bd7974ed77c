/** Debian's Firefox under remote control, by WebDriver BiDi. */

import puppeteer from "puppeteer-core";
import type { Browser } from "puppeteer-core";

/**
 * Preferences of the tests' profile.
 *
 * `media.gmp-*`: Debian's Firefox downloads OpenH264 after its first start; without it H.264 over WebRTC is not offered,
 * which is the state that a fresh Firefox is in and that VP8 has to serve.
 */
const PREFERENCES: Readonly<Record<string, unknown>> = {
  "media.autoplay.default": 0,
  "media.autoplay.blocking_policy": 0,
  "media.gmp-manager.updateEnabled": false,
  "media.gmp-gmpopenh264.enabled": false,
  "media.peerconnection.ice.obfuscate_host_addresses": true,
  "full-screen-api.allow-trusted-requests-only": false,
};

/** Starts Firefox without a window. */
export async function launchFirefox(): Promise<Browser> {
  return puppeteer.launch({
    browser: "firefox",
    executablePath: process.env["KITE_FIREFOX"] ?? "/usr/bin/firefox-esr",
    headless: true,
    extraPrefsFirefox: { ...PREFERENCES },
    defaultViewport: { width: 1280, height: 720 },
  });
}
