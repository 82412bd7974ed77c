import { ApiError } from "@kite-cloud/sdk";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { whenFree } from "../src/takeover.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const problem = (kind: string, status: number, retryAfterMs: number | null = null): ApiError =>
  new ApiError(kind, status, kind, "", retryAfterMs);
const IN_USE = problem("save_in_use", 409);
const SESSION = "a session";

/** Asks for a session that is answered with these, the last of them again and again. */
async function ask(answers: readonly (ApiError | typeof SESSION)[], signal = new AbortController().signal) {
  const begunMs = performance.now();
  const waitedMs: number[] = [];
  let asked = 0;
  const create = async (): Promise<string> => {
    const answer = answers[Math.min(asked, answers.length - 1)];
    asked += 1;
    if (answer === SESSION) return answer;
    throw answer;
  };
  const end = whenFree(create, (ms) => waitedMs.push(ms), signal).catch((error: Error) => error);
  await vi.runAllTimersAsync();
  return { end: await end, asked, waitedMs, tookMs: performance.now() - begunMs };
}

test("a free save is not waited for", async () => {
  expect(await ask([SESSION])).toEqual({ end: SESSION, asked: 1, waitedMs: [], tookMs: 0 });
});

test("one in use is asked for once a second, and how long is told", async () => {
  const { end, asked, waitedMs } = await ask([IN_USE, IN_USE, IN_USE, SESSION]);
  expect([end, asked, waitedMs]).toEqual([SESSION, 4, [0, 1000, 2000]]);
});

test("one that stays in use is given up after 45 s, with the server's word", async () => {
  const { end, tookMs } = await ask([IN_USE]);
  expect(end).toBe(IN_USE);
  expect(tookMs).toBeGreaterThanOrEqual(45_000);
  expect(tookMs).toBeLessThan(47_000);
});

test("too many requests wait as long as the server says, a lost connection tries again", async () => {
  const answers = [IN_USE, problem("rate_limited", 429, 7_000), problem("unreachable", 0), SESSION] as const;
  expect((await ask(answers)).tookMs).toBe(9_000);
});

test("any other refusal is final", async () => {
  const conflict = problem("save_conflict", 409);
  const { end, asked } = await ask([IN_USE, conflict]);
  expect([end, asked]).toEqual([conflict, 2]);
});

test("who does not want to wait any more is let go at once", async () => {
  const abort = new AbortController();
  setTimeout(() => abort.abort(), 2_500);
  const { end, asked, tookMs } = await ask([IN_USE], abort.signal);
  expect(end).toMatchObject({ name: "AbortError" });
  expect([asked, tookMs]).toEqual([3, 2_500]);
});
