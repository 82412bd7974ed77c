import { afterEach, expect, test, vi } from "vitest";
import { traceparent } from "../../src/core/trace.js";
import { Api } from "../../src/rest/client.js";

const GOOD = /^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]$/;

afterEach(() => {
  vi.unstubAllGlobals();
});

test("a traceparent is what the standard says", () => {
  const random = Uint8Array.from({ length: 24 }, (_, index) => index);
  expect(traceparent(random, true)).toBe("00-000102030405060708090a0b0c0d0e0f-1011121314151617-01");
  expect(traceparent(random, false)).toBe("00-000102030405060708090a0b0c0d0e0f-1011121314151617-00");
  expect(traceparent(new Uint8Array(24), true)).toMatch(GOOD);
});

test("each play has a trace of its own, another's, or none", async () => {
  const sent: (string | null)[] = [];
  vi.stubGlobal("fetch", async (_url: URL, init: RequestInit) => {
    sent.push(new Headers(init.headers).get("traceparent"));
    return Response.json({}, { status: 201 });
  });
  const base = "http://kite.test";
  const own = new Api({ base });
  await own.createSession({ app: "pong" });
  await own.createSession({ app: "pong" });
  await new Api({ base, traceparent: () => "theirs" }).createSession({ app: "pong" });
  await new Api({ base, traceparent: null }).createSession({ app: "pong" });
  expect(sent[0]).toMatch(GOOD);
  expect(sent[1]).toMatch(GOOD);
  expect(sent[0]).not.toBe(sent[1]);
  expect(sent.slice(2)).toEqual(["theirs", null]);
});
