//! What the test server refuses with.

import type { Problem } from "../../src/rest/types.js";

export function problem(status: number, word: string, detail: string): Problem {
  return { type: `urn:kite:problem:${word}`, title: detail, status, detail, remedy: "Try something else." };
}
