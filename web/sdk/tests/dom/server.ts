//! A server for the tests in real browsers: static files, the REST contract over real HTTP, the link over a real
//! WebSocket, and WHEP offers that are answered by a real peer connection in another tab of the browser.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { extname, join, normalize } from "node:path";
import { type WebSocket, WebSocketServer } from "ws";
import type { App, Play, PlayerIdentity, Problem, Session, SessionState } from "../../src/rest/types.js";
import { problem } from "./problem.js";
import { type SavesAnswer, TestSaves } from "./saves.js";

export interface TestServer {
  readonly origin: string;
  /** Answers an offer; set by the test. */
  answer: (sdp: string) => Promise<string>;
  apps: readonly App[];
  readonly sessions: Map<string, TestSession>;
  /** By their tokens. */
  readonly players: Map<string, PlayerIdentity>;
  readonly saves: TestSaves;
  /** Requests so far: `POST /v1/sessions` ... */
  readonly requests: string[];
  /** What sessions were asked for. */
  readonly wishes: unknown[];
  /** The next creations of sessions, or offers, but not of players, are refused with these. */
  readonly refusals: Problem[];
  close(): Promise<void>;
}

export class TestSession {
  session: Session;
  readonly token = randomUUID();
  readonly links = new Set<WebSocket>();
  /** How many links were opened so far. */
  linksOpened = 0;
  /** What the clients said over the link. */
  readonly heard: unknown[] = [];
  /** Id of the player whose it is. */
  player: string | null = null;

  constructor(app: string, spec: Session["spec"]) {
    const id = `ses_${randomUUID().replaceAll("-", "")}`;
    const created_at = new Date().toISOString();
    this.session = {
      id,
      app,
      spec,
      state: { state: "ready", connect_until: created_at },
      sentence: "The game is ready for you.",
      first_frame: true,
      revision: 1,
      created_at,
      ends_at: created_at,
    };
  }

  become(state: SessionState, sentence: string): void {
    this.session = { ...this.session, state, sentence, revision: this.session.revision + 1 };
    for (const link of this.links) this.tell(link);
  }

  /** As the player does. */
  leave(): void {
    const at = new Date().toISOString();
    this.become({ state: "ended", reason: "player_left", party: "player", at }, "You left the game.");
  }

  tell(link: WebSocket): void {
    link.send(JSON.stringify({ type: "session", session: this.session }));
    if (this.session.state.state === "ended") link.close();
  }
}

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".jpg": "image/jpeg",
};

/** As the control plane sends it, so that what it forbids fails here too. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data:; " +
  "media-src 'self' blob:; connect-src 'self'; worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'";

const NO_SESSION = problem(404, "session_unknown", "There is no such session.");
const NO_APP = problem(404, "app_unknown", "There is no such app.");

/** Serves `roots` in order; `/v1/...` by the contract; other paths get the first root's `index.html`. */
export async function startServer(roots: readonly string[]): Promise<TestServer> {
  const sessions = new Map<string, TestSession>();
  const players = new Map<string, PlayerIdentity>();
  const saves = new TestSaves();
  const requests: string[] = [];
  const wishes: unknown[] = [];
  const refusals: Problem[] = [];
  const server = createServer((request, response) => {
    handle(request, response).catch((error: unknown) => {
      response.writeHead(500).end(String(error));
    });
  });

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", "http://test").pathname;
    if (!path.startsWith("/v1/")) return serveFile(path, response);
    requests.push(`${request.method} ${path}`);
    const body = await read(request);
    if (path.startsWith("/v1/players")) return handlePlayer(request, response, body);
    const refused = request.method === "POST" ? refusals.shift() : undefined;
    if (refused !== undefined) return refuse(response, refused);
    if (path === "/v1/sites") return json(response, 200, { sites: [{ name: "local" }] });
    if (path === "/v1/apps") return json(response, 200, { apps: test.apps });
    const [, name] = /^\/v1\/apps\/([^/]+)$/.exec(path) ?? [];
    if (name !== undefined) {
      const app = test.apps.find((each) => each.name === name);
      return app === undefined ? refuse(response, NO_APP) : json(response, 200, app);
    }
    if (path === "/v1/sessions" && request.method === "POST") {
      const wish = JSON.parse(body) as { app: string; spec?: Session["spec"] };
      wishes.push(wish);
      const { app, spec } = wish;
      const known = test.apps.find(({ name }) => name === app);
      if (known === undefined) return refuse(response, NO_APP);
      const created = new TestSession(app, spec ?? known.spec.default);
      const { session, token } = created;
      created.player = playerOf(request)?.id ?? null;
      sessions.set(session.id, created);
      const base = `/v1/sessions/${session.id}`;
      return json(response, 201, {
        session,
        token,
        token_expires_at: session.ends_at,
        link: `${base}/link`,
        whep: `${base}/whep`,
      });
    }
    const [, id, rest] = /^\/v1\/sessions\/([^/]+)(\/.*)?$/.exec(path) ?? [];
    const found = sessions.get(id ?? "");
    if (found === undefined) return refuse(response, NO_SESSION);
    if (request.headers.authorization !== `Bearer ${found.token}`) {
      return refuse(response, problem(401, "token_unknown", "The token is not known."));
    }
    if (rest === "/whep" && request.method === "POST") {
      const sdp = await test.answer(body);
      response.writeHead(201, { "content-type": "application/sdp", location: `${path}/${randomUUID()}` });
      response.end(sdp);
      return;
    }
    if (request.method === "DELETE") {
      if (rest === undefined) found.leave();
      response.writeHead(204).end();
      return;
    }
    json(response, 200, found.session);
  }

  function playerOf(request: IncomingMessage): PlayerIdentity | undefined {
    return players.get(request.headers.authorization?.replace("Bearer ", "") ?? "");
  }

  function handlePlayer(request: IncomingMessage, response: ServerResponse, body: string): void {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://test");
    if (pathname === "/v1/players" && request.method === "POST") {
      const now = new Date().toISOString();
      const player = { id: `ply_${randomUUID().replaceAll("-", "")}`, created_at: now, last_seen_at: now };
      const token = `kpl_${randomUUID()}`;
      players.set(token, player);
      return json(response, 201, { player, token });
    }
    const player = playerOf(request);
    if (player === undefined) return refuse(response, problem(401, "token_unknown", "The token is not known."));
    const his = [...sessions.values()].filter((session) => session.player === player.id);
    if (pathname === "/v1/players/me/plays") {
      const plays = his.reverse().map(playOf);
      const start = plays.findIndex(({ session }) => session === searchParams.get("before")) + 1;
      return json(response, 200, { plays: plays.slice(start, start + Number(searchParams.get("limit") ?? 50)) });
    }
    const ofSaves = saves.handle(request.method ?? "", pathname, searchParams, body);
    if (ofSaves !== undefined) return tell(response, ofSaves);
    const [, ended] = /^\/v1\/players\/me\/sessions\/(.+)$/.exec(pathname) ?? [];
    if (ended !== undefined) {
      const session = his.find((each) => each.session.id === ended);
      session?.leave();
      return session === undefined ? refuse(response, NO_SESSION) : json(response, 200, session.session);
    }
    if (request.method !== "DELETE") return json(response, 200, player);
    if (his.some(({ session }) => session.state.state !== "ended")) {
      return refuse(response, problem(409, "player_busy", "A session of this player has not ended yet."));
    }
    for (const [token, { id }] of players) if (id === player.id) players.delete(token);
    response.writeHead(204).end();
  }

  function playOf({ session }: TestSession): Play {
    const { id, app, state, sentence, created_at } = session;
    const title = test.apps.find(({ name }) => name === app)?.title ?? null;
    const end = state.state === "ended" ? { ended_at: state.at, reason: state.reason, party: state.party } : {};
    return { session: id, app, title, started_at: created_at, sentence, ...end };
  }

  async function serveFile(path: string, response: ServerResponse): Promise<void> {
    const wanted = extname(path) === "" ? "/index.html" : normalize(path);
    for (const root of roots) {
      const content = await readFile(join(root, wanted)).catch(() => null);
      if (content === null) continue;
      const type = TYPES[extname(wanted)] ?? "application/octet-stream";
      response.writeHead(200, { "content-type": type, "content-security-policy": POLICY }).end(content);
      return;
    }
    response.writeHead(404).end("not found");
  }

  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => "kite.link.v1" });
  server.on("upgrade", (request, socket, head) => {
    const id = /^\/v1\/sessions\/([^/]+)\/link$/.exec(request.url ?? "")?.[1];
    const found = sessions.get(id ?? "");
    const offered = request.headers["sec-websocket-protocol"] ?? "";
    if (found === undefined || !offered.includes(`kite.token.${found.token}`)) {
      socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
      return;
    }
    sockets.handleUpgrade(request, socket, head, (link) => {
      found.links.add(link);
      found.linksOpened += 1;
      link.on("close", () => found.links.delete(link));
      link.on("message", (data) => found.heard.push(JSON.parse(String(data))));
      found.tell(link);
    });
  });

  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  const test: TestServer = {
    origin: `http://127.0.0.1:${address.port}`,
    answer: () => Promise.reject(new Error("nobody answers offers")),
    apps: [],
    sessions,
    players,
    saves,
    requests,
    wishes,
    refusals,
    async close() {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return test;
}

async function read(request: IncomingMessage): Promise<string> {
  let body = "";
  for await (const chunk of request) body += String(chunk);
  return body;
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function tell(response: ServerResponse, answer: SavesAnswer): void {
  if (answer === null) response.writeHead(204).end();
  else if (typeof answer === "string") response.writeHead(200, { "content-type": "application/x-tar" }).end(answer);
  else if ("saves" in answer) json(response, 200, answer);
  else refuse(response, answer);
}

function refuse(response: ServerResponse, body: Problem): void {
  response.writeHead(body.status, { "content-type": "application/problem+json" }).end(JSON.stringify(body));
}
