import { expect, test } from "vitest";
import { parseRoute } from "../src/route.ts";
import { rates, resolutions } from "../src/spec.ts";
import { durationText } from "../src/time.ts";

test.each([
  ["/", "", { name: "catalogue" }],
  ["/play/chocolate-doom", "", { name: "game", app: "chocolate-doom", query: { autostart: false, spec: {} } }],
  [
    "/play/doom/",
    "?autostart=1&width=1280&height=720&fps=60",
    {
      name: "game",
      app: "doom",
      query: { autostart: true, spec: { width: 1280, height: 720, frames_per_second: 60 } },
    },
  ],
  ["/play/doom", "?width=abc&height=-1&fps=1e9", { name: "game", app: "doom", query: { autostart: false, spec: {} } }],
  ["/plays", "", { name: "plays" }],
  ["/plays/", "", { name: "plays" }],
  ["/plays/7", "", { name: "unknown" }],
  ["/saves", "", { name: "saves", app: null }],
  ["/saves/", "?app=doom-2", { name: "saves", app: "doom-2" }],
  ["/saves", "?app=../x", { name: "saves", app: null }],
  ["/play/Doom", "", { name: "unknown" }],
  ["/play/", "", { name: "unknown" }],
  ["/elsewhere", "", { name: "unknown" }],
])("%s%s", (path, search, expected) => {
  expect(parseRoute(path, search)).toEqual(expected);
});

const spec = (width: number, height: number, frames_per_second: number) => ({ width, height, frames_per_second });

test("offered specs lie inside of the app's range, and its default is among them", () => {
  const range = { min: spec(320, 180, 10), max: spec(1920, 1080, 60), default: spec(1280, 720, 60) };
  expect(resolutions(range).map(({ label }) => label)).toEqual(["480p", "720p", "1080p"]);
  expect(rates(range).map(({ value }) => value)).toEqual([30, 60]);
  const odd = { min: spec(640, 400, 35), max: spec(640, 400, 35), default: spec(640, 400, 35) };
  expect(resolutions(odd)).toEqual([{ value: { width: 640, height: 400 }, label: "640 × 400" }]);
  expect(rates(odd).map(({ value }) => value)).toEqual([35]);
});

test.each([
  [-5, "under a minute"],
  [29_000, "under a minute"],
  [60_000, "1 min"],
  [59.4 * 60_000, "59 min"],
  [59.6 * 60_000, "1 h"],
  [95 * 60_000, "1 h 35 min"],
])("%d ms are %s", (ms, expected) => {
  expect(durationText(ms)).toBe(expected);
});
