import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Api, ApiError } from "../../src/rest/client.js";
import { ensurePlayer, erasePlayer, knownPlayer, type PlayerStorage } from "../../src/rest/players.js";

/** A server of players: their tokens, and what was asked of it. */
class Server {
  readonly tokens = new Set<string>();
  readonly requests: string[] = [];
  /** Every request is answered with this status. */
  broken: number | null = null;
  made = 0;

  answer(url: URL, init: RequestInit): Response {
    const method = init.method ?? "GET";
    const token = new Headers(init.headers).get("authorization")?.replace("Bearer ", "") ?? null;
    this.requests.push(`${method} ${url.pathname}${url.search}${token === null ? "" : ` ${token}`}`);
    if (this.broken !== null) return new Response(null, { status: this.broken });
    if (url.pathname === "/v1/players") {
      this.made += 1;
      this.tokens.add(`kpl_${this.made}`);
      return Response.json({ player: { id: `ply_${this.made}` }, token: `kpl_${this.made}` }, { status: 201 });
    }
    if (url.pathname === "/v1/sessions") return Response.json({}, { status: 201 });
    if (token === null || !this.tokens.has(token)) return new Response(null, { status: 401 });
    if (method === "DELETE") {
      this.tokens.delete(token);
      return new Response(null, { status: 204 });
    }
    return Response.json({});
  }
}

class MemoryStorage implements PlayerStorage {
  readonly items = new Map<string, string>();
  getItem = (key: string): string | null => this.items.get(key) ?? null;
  setItem = (key: string, value: string): void => void this.items.set(key, value);
  removeItem = (key: string): void => void this.items.delete(key);
}

let server: Server;
let storage: MemoryStorage;
const options = (): { server: string; storage: PlayerStorage } => ({ server: "http://kite.test", storage });
const KEY = "kite.player.http://kite.test";

beforeEach(() => {
  server = new Server();
  storage = new MemoryStorage();
  vi.stubGlobal("fetch", async (url: URL, init: RequestInit) => server.answer(url, init));
});
afterEach(() => {
  vi.unstubAllGlobals();
});

test("a player is made once, and found again", async () => {
  expect(knownPlayer(options())).toBeNull();
  const made = await ensurePlayer(options());
  expect(made).toEqual({ player: "ply_1", token: "kpl_1" });
  expect(await ensurePlayer(options())).toEqual(made);
  expect(knownPlayer(options())).toEqual(made);
  expect(server.requests).toEqual(["POST /v1/players", "GET /v1/players/me kpl_1"]);
  expect([...storage.items.keys()]).toEqual([KEY]);
});

test("a player of another server is another", async () => {
  await ensurePlayer(options());
  expect(knownPlayer({ ...options(), server: "http://other.test" })).toBeNull();
});

test("one whom the server forgot is thrown away, and a new one made once", async () => {
  await ensurePlayer(options());
  server.tokens.clear();
  expect(await ensurePlayer(options())).toEqual({ player: "ply_2", token: "kpl_2" });
  expect(await ensurePlayer(options())).toEqual({ player: "ply_2", token: "kpl_2" });
  expect(server.made).toBe(2);
});

test.each([
  "",
  "nonsense",
  "null",
  "[]",
  "7",
  '{"player":"ply_1"}',
  '{"player":7,"token":"x"}',
  '{"player":"p","token":""}',
])("%j in the storage is no player", async (kept) => {
  storage.items.set(KEY, kept);
  expect(knownPlayer(options())).toBeNull();
  expect(await ensurePlayer(options())).toEqual({ player: "ply_1", token: "kpl_1" });
});

test("where nothing can be kept, nobody is made", async () => {
  storage.setItem = () => {
    throw new Error("denied");
  };
  expect(await ensurePlayer(options())).toBeNull();
  vi.stubGlobal("localStorage", undefined);
  expect(await ensurePlayer({ server: "http://kite.test" })).toBeNull();
  expect(server.requests).toEqual([]);
});

test.each([401, 403, 404])("where the server makes no players (%d), one plays as nobody", async (status) => {
  server.broken = status;
  expect(await ensurePlayer(options())).toBeNull();
  expect(storage.items.size).toBe(0);
});

test.each([429, 500, 503])("a server that cannot answer now (%d) forgets nobody", async (status) => {
  const made = await ensurePlayer(options());
  server.broken = status;
  await expect(ensurePlayer(options())).rejects.toThrow(ApiError);
  storage.items.delete(KEY);
  await expect(ensurePlayer(options())).rejects.toThrow(ApiError);
  server.broken = null;
  expect(made).not.toBeNull();
});

test("two tabs at once end with one player", async () => {
  const both = await Promise.all([ensurePlayer(options()), ensurePlayer(options())]);
  expect(both[0]).toEqual(both[1]);
  expect(knownPlayer(options())).toEqual(both[0]);
});

test("erasing forgets here and there, also one who is gone there already", async () => {
  await erasePlayer(options());
  await ensurePlayer(options());
  await erasePlayer(options());
  expect([server.tokens.size, storage.items.size]).toEqual([0, 0]);
  await ensurePlayer(options());
  server.tokens.clear();
  await erasePlayer(options());
  expect(storage.items.size).toBe(0);
  await ensurePlayer(options());
  server.broken = 409;
  await expect(erasePlayer(options())).rejects.toThrow(ApiError);
  expect(knownPlayer(options())).not.toBeNull();
});

test("a session is of the player whose token is given, and of nobody without", async () => {
  const api = new Api({ base: "http://kite.test" });
  await api.createSession({ app: "pong" }, undefined, "kpl_1");
  await api.createSession({ app: "pong" });
  expect(server.requests).toEqual(["POST /v1/sessions kpl_1", "POST /v1/sessions"]);
});

test("pages of plays are asked for by their session", async () => {
  const api = new Api({ base: "http://kite.test" });
  server.tokens.add("kpl_1");
  await api.plays("kpl_1");
  await api.plays("kpl_1", { before: "ses_1", limit: 3 });
  expect(server.requests).toEqual([
    "GET /v1/players/me/plays kpl_1",
    "GET /v1/players/me/plays?before=ses_1&limit=3 kpl_1",
  ]);
});
