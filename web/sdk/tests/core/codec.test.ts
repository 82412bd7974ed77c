import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { DecodeError } from "../../src/protocol/bytes.js";
import {
  decodeClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  encodeServerMessage,
} from "../../src/protocol/codec.js";
import type { ClientMessage, ServerMessage } from "../../src/protocol/wire.generated.js";

interface Vector {
  readonly direction: "client" | "server";
  readonly bytes: string;
  readonly message: unknown;
}

const path = new URL("../../../../crates/wire/vectors.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8")) as Vector[];

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
/** JSON has no byte strings. */
const plain = (message: unknown): unknown =>
  JSON.parse(JSON.stringify(message, (_, value: unknown) => (value instanceof Uint8Array ? [...value] : value)));
const revive = (message: unknown): unknown =>
  JSON.parse(JSON.stringify(message), (key, value: unknown) =>
    key === "rgba" ? new Uint8Array(value as number[]) : value,
  );

describe("golden vectors, shared with the Rust codec", () => {
  test("there are some of both directions", () => {
    expect(vectors.filter((vector) => vector.direction === "client").length).toBeGreaterThan(15);
    expect(vectors.filter((vector) => vector.direction === "server").length).toBeGreaterThan(10);
  });

  test.each(vectors)("$direction $bytes", ({ direction, bytes, message }) => {
    const isClient = direction === "client";
    const decoded = isClient ? decodeClientMessage(unhex(bytes)) : decodeServerMessage(unhex(bytes));
    expect(plain(decoded)).toEqual(message);
    const value = revive(message);
    const encoded = isClient
      ? encodeClientMessage(value as ClientMessage)
      : encodeServerMessage(value as ServerMessage);
    expect(hex(encoded)).toBe(bytes);
  });

  test("every cut of every vector is refused, and bytes of a newer peer at the end are ignored", () => {
    for (const { direction, bytes, message } of vectors) {
      const decode = direction === "client" ? decodeClientMessage : decodeServerMessage;
      const whole = unhex(bytes);
      for (let length = 0; length < whole.length; length += 1) {
        expect(() => decode(whole.subarray(0, length))).toThrow(DecodeError);
      }
      expect(plain(decode(new Uint8Array([...whole, 1, 2, 3])))).toEqual(message);
    }
  });
});

describe("refusals", () => {
  const refusal = (bytes: number[]): DecodeError => {
    try {
      decodeServerMessage(new Uint8Array(bytes));
    } catch (error) {
      if (error instanceof DecodeError) return error;
      throw error;
    }
    throw new Error("it was accepted");
  };

  test("an unknown message is marked, so that it can be skipped", () => {
    expect(refusal([250]).unknownType).toBe(true);
    expect(refusal([3, 9]).unknownType).toBe(false);
    expect(refusal([4, 2]).unknownType).toBe(false);
  });

  test("limits hold", () => {
    expect(refusal([6, 4, 0, 0, 0, 0, 0, 0]).message).toContain("4 at byte");
    expect(refusal([5, 1, 0, 1, 0]).message).toContain("65537");
    expect(refusal([5, 1, 0, 0, 0, 0xff]).message).toContain("UTF-8");
    expect(() => decodeServerMessage(new Uint8Array(262_145))).toThrow("262145 bytes");
  });

  test("random bytes end in a message or a DecodeError", () => {
    let seed = 12_345;
    const random = (): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 16) & 0xff;
    };
    for (let round = 0; round < 20_000; round += 1) {
      const bytes = Uint8Array.from({ length: random() % 40 }, random);
      if (bytes.length > 0) bytes[0] = random() % 20;
      for (const decode of [decodeClientMessage, decodeServerMessage]) {
        try {
          decode(bytes);
        } catch (error) {
          if (!(error instanceof DecodeError)) throw error;
        }
      }
    }
  });
});

test("a long text is cut at a character's end", () => {
  const decoded = decodeClientMessage(encodeClientMessage({ type: "clipboard", text: `${"é".repeat(32_767)}x🪁` }));
  expect(decoded).toEqual({ type: "clipboard", text: `${"é".repeat(32_767)}x` });
});
