import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Api, ApiError } from "../../src/rest/client.js";
import type { SaveVersion } from "../../src/rest/types.js";

const api = new Api({ base: "http://kite.test" });
const VERSION: SaveVersion = {
  id: "sav_1",
  app: "pong",
  parents: [],
  is_newest: true,
  bytes: 7,
  files: 1,
  kind: "final",
  settled: true,
  created_at: "2026-01-31T12:34:56.789Z",
};

let asked: Request[];
let answer: () => Response;

beforeEach(() => {
  asked = [];
  answer = () => Response.json({ saves: [VERSION] });
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => {
    asked.push(new Request(url, init));
    return answer();
  });
});
afterEach(() => {
  vi.unstubAllGlobals();
});

const lines = (): string[] =>
  asked.map(
    ({ method, url, headers }) => `${method} ${url.slice(api.base.origin.length)} ${headers.get("authorization")}`,
  );

test("versions are asked for by app or all, gone back to by their id", async () => {
  expect(await api.saves("kpl_1")).toEqual({ saves: [VERSION] });
  await api.saves("kpl_1", { app: "pong" });
  await api.restoreSave("kpl_1", "sav_1");
  expect(lines()).toEqual([
    "GET /v1/players/me/saves Bearer kpl_1",
    "GET /v1/players/me/saves?app=pong Bearer kpl_1",
    "POST /v1/players/me/saves/sav_1/restore Bearer kpl_1",
  ]);
});

test("an archive comes with a name that every file system takes, and goes as tar", async () => {
  answer = () => new Response("tar", { headers: { "content-type": "application/x-tar" } });
  const { content, fileName } = await api.saveArchive("kpl_1", VERSION);
  expect(fileName).toBe("pong-2026-01-31T12-34-56.tar");
  answer = () => Response.json({ saves: [VERSION] });
  await api.bringSave("kpl_1", "pong", content);
  expect(lines()).toEqual([
    "GET /v1/players/me/saves/sav_1/archive Bearer kpl_1",
    "POST /v1/players/me/apps/pong/saves Bearer kpl_1",
  ]);
  expect(asked[1]?.headers.get("content-type")).toBe("application/x-tar");
  expect(await asked[1]?.text()).toBe("tar");
});

test("an archive that breaks off is a lost connection", async () => {
  const broken = new ReadableStream({ pull: (controller) => controller.error(new TypeError("reset")) });
  answer = () => new Response(broken);
  await expect(api.saveArchive("kpl_1", VERSION)).rejects.toThrow("The server cannot be reached.");
});

test("what is erased is said: an app's saves, or all", async () => {
  answer = () => new Response(null, { status: 204 });
  await api.eraseSaves("kpl_1", { app: "pong" });
  await api.eraseSaves("kpl_1", {});
  expect(lines()).toEqual([
    "DELETE /v1/players/me/saves?app=pong Bearer kpl_1",
    "DELETE /v1/players/me/saves Bearer kpl_1",
  ]);
});

test("a player ends his own session by its id; another's is refused", async () => {
  answer = () => Response.json({ id: "ses_1" });
  expect((await api.endMySession("kpl_1", "ses_1")).id).toBe("ses_1");
  expect(lines()).toEqual(["DELETE /v1/players/me/sessions/ses_1 Bearer kpl_1"]);
  const problem = { type: "urn:kite:problem:session_unknown", status: 404, detail: "No.", remedy: "None." };
  answer = () => Response.json(problem, { status: 404, headers: { "content-type": "application/problem+json" } });
  const refused = await api.endMySession("kpl_1", "ses_2").catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(ApiError);
  expect(refused).toMatchObject({ kind: "session_unknown", status: 404, message: "No.", remedy: "None." });
});
