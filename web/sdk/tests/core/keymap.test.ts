import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { evdevCode, KEY_CODES } from "../../src/core/keymap.js";

test.each([
  ["KeyA", 30],
  ["Escape", 1],
  ["Digit0", 11],
  ["Numpad0", 82],
  ["NumpadEnter", 96],
  ["F10", 68],
  ["F11", 87],
  ["F13", 183],
  ["F24", 194],
  ["ArrowUp", 103],
  ["ShiftRight", 54],
  ["MetaLeft", 125],
  ["IntlBackslash", 86],
  ["IntlYen", 124],
  ["Lang1", 122],
  ["MediaPlayPause", 164],
  ["AudioVolumeUp", 115],
])("%s is %d", (code, evdev) => {
  expect(evdevCode(code)).toBe(evdev);
});

test("unknown keys and names of Object's own are none", () => {
  for (const code of ["", "Unidentified", "keya", "toString", "constructor"]) expect(evdevCode(code)).toBeNull();
});

test("no two keys are one", () => {
  const numbers = KEY_CODES.map(evdevCode);
  expect(new Set(numbers).size).toBe(numbers.length);
});

test("every key that a manifest may name can be sent", () => {
  const source = readFileSync(new URL("../../../../crates/api/src/manifest/keys.rs", import.meta.url), "utf8");
  const named = [...(source.split("];")[0] ?? "").matchAll(/"(\w+)"/g)].map((match) => match[1] ?? "");
  expect(named.length).toBeGreaterThan(40);
  const numbered = [
    ...Array.from({ length: 24 }, (_, index) => `F${index + 1}`),
    ...Array.from({ length: 10 }, (_, index) => [`Digit${index}`, `Numpad${index}`]).flat(),
    ...[..."ABCDEFGHIJKLMNOPQRSTUVWXYZ"].map((letter) => `Key${letter}`),
  ];
  expect([...named, ...numbered].filter((code) => evdevCode(code) === null)).toEqual([]);
});
