import type { Play, SaveVersion } from "@kite-cloud/sdk";
import { expect, test } from "vitest";
import { byGame, replaced, sizeText, versionFacts } from "../src/save.ts";

const version = (id: string, app: string, more: Partial<SaveVersion> = {}): SaveVersion => ({
  id,
  app,
  parents: [],
  is_newest: false,
  bytes: 1234,
  files: 1,
  kind: "final",
  settled: true,
  created_at: "2026-01-31T12:30:00Z",
  ...more,
});

test.each([
  [0, "0 bytes"],
  [999, "999 bytes"],
  [1000, "1.0 kB"],
  [9_940, "9.9 kB"],
  [9_960, "10 kB"],
  [20_971_520, "21 MB"],
  [3e9, "3.0 GB"],
])("%d bytes are %s", (bytes, expected) => {
  expect(sizeText(bytes)).toBe(expected);
});

test("a version says why it was made, after how long, and how much it is", () => {
  const play: Play = { session: "ses_1", app: "a", started_at: "2026-01-31T12:00:00Z", sentence: "You are playing." };
  expect(versionFacts(version("1", "a"), play)).toEqual(["when the game ended", "30 min of play", "1.2 kB", "1 file"]);
  const brought = version("1", "a", { kind: "chosen", files: 2 });
  expect(versionFacts(brought, undefined)).toEqual(["brought or gone back to", "1.2 kB", "2 files and folders"]);
});

const names = (saves: readonly SaveVersion[]): string[] =>
  byGame(saves).map(({ app, versions }) => `${app}: ${versions.map(({ id }) => id)}`);

test("the game that was saved last comes first, and stays where it is when its versions change", () => {
  const saves = [version("4", "b"), version("3", "a"), version("2", "b"), version("1", "a")];
  expect(names(saves)).toEqual(["b: 4,2", "a: 3,1"]);
  expect(names(replaced(saves, "a", [version("5", "a")]))).toEqual(["b: 4,2", "a: 5"]);
  expect(names(replaced(saves, "b", []))).toEqual(["a: 3,1"]);
  expect(names(replaced(saves, "c", [version("5", "c")]))).toEqual(["c: 5", "b: 4,2", "a: 3,1"]);
});
