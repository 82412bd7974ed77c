/** The history of a player's saves: nothing is written over, branches are joined by the player's choice, archives come and go. */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { newDirectory, startKite } from "../lib/kite.ts";
import type { Kite } from "../lib/kite.ts";
import { answer, archiveOf, ask, begin, finish, newPlayer, push, refusal, scripted, untar, versions } from "../lib/saves.ts";
import type { Server, Version } from "../lib/saves.ts";

/** A game whose save is a file that gets one more line at each play: the lines tell which plays a version comes from. */
const DIARY = 'mkdir -p "$HOME/.diary"; cat /proc/sys/kernel/random/uuid >> "$HOME/.diary/lines"';
/** Besides the diary everything else that a directory can have. */
const ODD = `${DIARY}; cd "$HOME/.diary"
mkfifo pipe; ln -s /etc/passwd passwd; ln -s lines also; ln -f lines twice; mkdir -p a/b/c/d; : > a/b/c/d/empty
echo odd > "$(printf 'new\\nline')"; echo odd > ./-rf; echo odd > secret; chmod 000 secret; chmod 500 a/b
head -c 20971520 /dev/zero > large; cd /`;
/** More files than a save may have, from the second play on. */
const GREEDY = `${DIARY}; [ $(wc -l < "$HOME/.diary/lines") = 1 ] && exec "$base/probe-wayland"
i=0; while [ $i -lt 11000 ]; do : > "$HOME/.diary/$i"; i=$((i+1)); done`;
const DIARY_FILE = "home/.diary/lines";
const SAVES = '[saves]\npaths = ["<home>/.diary/**"]\n';

let kite: Kite;
let server: Server;
const directory = newDirectory("kite-spec-");

before(async () => {
  const storage = join(directory, "data");
  const games = newDirectory("kite-spec-none-");
  kite = await startKite({ games: [games], sessions: 4, storage });
  rmSync(games, { recursive: true });
  server = { base: kite.base, storage };
  push(server, scripted(directory, "diary", DIARY, SAVES));
  push(server, scripted(directory, "branching", DIARY, `${SAVES}concurrent = "branch"\n`));
  push(server, scripted(directory, "odd", ODD, SAVES));
  push(server, scripted(directory, "greedy", GREEDY, SAVES));
  push(server, scripted(directory, "forgetful", DIARY, ""));
});

after(async () => {
  await kite?.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function linesOf(player: string, version: string): Promise<string[]> {
  const file = untar(await archiveOf(server, player, version)).get(DIARY_FILE);
  return Buffer.from(file ?? []).toString().trim().split("\n");
}

async function newest(player: string, app: string): Promise<Version[]> {
  return (await versions(server, player, app)).filter((version) => version.is_newest);
}

/** The one newest version. */
async function head(player: string, app: string): Promise<Version> {
  const [only, ...others] = await newest(player, app);
  assert.ok(only && others.length === 0, `one newest version, not ${others.length + 1}`);
  return only;
}

async function once(player: string, app: string, more: object = {}): Promise<void> {
  await finish(server, await begin(server, player, app, more));
}

test("each play goes on where the last one ended, and every end is a version", async () => {
  const player = await newPlayer(server);
  for (let play = 1; play <= 3; play++) await once(player, "diary");
  const all = await versions(server, player, "diary");
  assert.deepEqual(all.map(({ kind, is_newest }) => [kind, is_newest]), [["final", true], ["final", false], ["final", false]]);
  assert.deepEqual(all.map((version) => version.parents), [[all[1]?.id], [all[2]?.id], []]);
  const lines = await Promise.all(all.map(({ id }) => linesOf(player, id)));
  assert.deepEqual(lines.map((of) => of.length), [3, 2, 1]);
  assert.deepEqual(lines[0]?.slice(0, 2), lines[1]);
});

test("players do not see each other's saves", async () => {
  const [player, other] = [await newPlayer(server), await newPlayer(server)];
  await once(player, "diary");
  const { id } = await head(player, "diary");
  assert.deepEqual(await versions(server, other, "diary"), []);
  assert.equal((await refusal(await ask(server, other, "GET", `/v1/players/me/saves/${id}/archive`), 404)).kind, "save_unknown");
  assert.equal((await refusal(await ask(server, other, "POST", `/v1/players/me/saves/${id}/restore`), 404)).kind, "save_unknown");
  const stolen = await ask(server, other, "POST", "/v1/sessions", { app: "diary", save: id });
  assert.equal((await refusal(stolen, 404)).kind, "save_unknown");
  await once(other, "diary");
  assert.equal((await linesOf(other, (await head(other, "diary")).id)).length, 1, "the other player began with nothing");
});

test("a second session of one save is refused, and allowed when the first one has ended", async () => {
  const player = await newPlayer(server);
  const first = await begin(server, player, "diary");
  const second = await refusal(await ask(server, player, "POST", "/v1/sessions", { app: "diary" }), 409);
  assert.equal(second.kind, "save_in_use");
  assert.match(second.detail, new RegExp(first.id), "it names the session that has the save");
  await finish(server, first);
  await once(player, "diary");
  assert.equal((await linesOf(player, (await head(player, "diary")).id)).length, 2);
});

test("two sessions at once branch, both ends are kept, and the player's choice joins them", async () => {
  const player = await newPlayer(server);
  await once(player, "branching");
  const root = await head(player, "branching");
  const both = [await begin(server, player, "branching"), await begin(server, player, "branching")];
  for (const session of both) await finish(server, session);
  const ends = await newest(player, "branching");
  assert.equal(ends.length, 2);
  for (const end of ends) assert.deepEqual(end.parents, [root.id]);
  const [chosen, other] = await Promise.all(ends.map(({ id }) => linesOf(player, id)));
  assert.deepEqual([chosen?.length, other?.length, chosen?.[0] === other?.[0], chosen?.[1] === other?.[1]], [2, 2, true, false]);

  const conflict = await refusal(await ask(server, player, "POST", "/v1/sessions", { app: "branching" }), 409);
  assert.equal(conflict.kind, "save_conflict");
  for (const { id } of ends) assert.match(conflict.detail, new RegExp(id), "it names both versions");

  await once(player, "branching", { save: ends[0]?.id });
  const joined = await head(player, "branching");
  assert.deepEqual([...joined.parents].toSorted(), ends.map(({ id }) => id).toSorted());
  assert.deepEqual((await linesOf(player, joined.id)).slice(0, 2), chosen, "it went on from the chosen version");
  await once(player, "branching");
  assert.equal((await linesOf(player, (await head(player, "branching")).id)).length, 4);
});

test("an older version is gone back to, and what came after it stays", async () => {
  const player = await newPlayer(server);
  for (let play = 1; play <= 2; play++) await once(player, "diary");
  const [second, first] = await versions(server, player, "diary");
  await answer(await ask(server, player, "POST", `/v1/players/me/saves/${first?.id}/restore`));
  const chosen = await head(player, "diary");
  assert.deepEqual([chosen.kind, chosen.parents], ["chosen", [second?.id]]);
  await once(player, "diary");
  const lines = await linesOf(player, (await head(player, "diary")).id);
  assert.deepEqual([lines.length, lines[0]], [2, (await linesOf(player, first?.id ?? ""))[0]]);
  assert.equal((await versions(server, player, "diary")).length, 4);
});

test("an archive is taken away and brought back, by another player too", async () => {
  const [player, other] = [await newPlayer(server), await newPlayer(server)];
  await once(player, "diary");
  const archive = await archiveOf(server, player, (await head(player, "diary")).id);
  assert.deepEqual([...untar(archive).keys()], [DIARY_FILE]);
  await answer(await ask(server, other, "POST", "/v1/players/me/apps/diary/saves", archive));
  const brought = await head(other, "diary");
  assert.equal(brought.kind, "chosen");
  assert.deepEqual(untar(await archiveOf(server, other, brought.id)), untar(archive));
  await once(other, "diary");
  const lines = await linesOf(other, (await head(other, "diary")).id);
  assert.deepEqual([lines.length, lines[0]], [2, Buffer.from(untar(archive).get(DIARY_FILE) ?? []).toString().trim()]);

  for (const garbage of [new Uint8Array(700).fill(7), archive.slice(0, 600)]) {
    const refused = await ask(server, other, "POST", "/v1/players/me/apps/diary/saves", garbage);
    assert.equal((await refusal(refused, 422)).kind, "invalid_save");
  }
});

test("a game that names no saves keeps none", async () => {
  const player = await newPlayer(server);
  await once(player, "forgetful");
  assert.deepEqual(await versions(server, player, "forgetful"), []);
});

test("saves that are erased are gone, those of other games stay", async () => {
  const player = await newPlayer(server);
  await once(player, "diary");
  await once(player, "branching");
  const { id } = await head(player, "diary");
  assert.equal((await ask(server, player, "DELETE", "/v1/players/me/saves?app=diary")).status, 204);
  assert.deepEqual(await versions(server, player, "diary"), []);
  assert.equal((await refusal(await ask(server, player, "GET", `/v1/players/me/saves/${id}/archive`), 404)).kind, "save_unknown");
  assert.equal((await versions(server, player, "branching")).length, 1);
  await once(player, "diary");
  assert.equal((await linesOf(player, (await head(player, "diary")).id)).length, 1, "it began anew");
});

test("saves that are erased in play stay erased, and the play ends as it does otherwise", async () => {
  const player = await newPlayer(server);
  await once(player, "diary");
  const running = await begin(server, player, "diary");
  assert.equal((await ask(server, player, "DELETE", "/v1/players/me/saves")).status, 204);
  const begunMs = Date.now();
  await finish(server, running);
  assert.ok(Date.now() - begunMs < 10_000, `the end took ${Date.now() - begunMs} ms`);
  assert.deepEqual(await versions(server, player, "diary"), []);
  assert.equal(existsSync(join(server.storage, "rescue")), false, "nothing of it lies on the node");
});

test("a player who is erased takes his saves with him", async () => {
  const player = await newPlayer(server);
  await once(player, "diary");
  assert.equal((await ask(server, player, "DELETE", "/v1/players/me")).status, 204);
  assert.equal((await ask(server, player, "GET", "/v1/players/me/saves")).status, 401);
});

test("what a game leaves besides files does no harm", async () => {
  const player = await newPlayer(server);
  for (let play = 1; play <= 2; play++) await once(player, "odd");
  const files = untar(await archiveOf(server, player, (await head(player, "odd")).id));
  const names = [...files.keys()];
  assert.ok(names.includes("home/.diary/new\nline") && names.includes("home/.diary/-rf"), names.join(", "));
  assert.ok(!names.some((name) => /pipe|passwd/.test(name)), names.join(", "));
  assert.equal(files.get("home/.diary/large")?.length, 20 << 20);
  assert.equal((await linesOf(player, (await head(player, "odd")).id)).length, 2);
});

test("a save over its limit ends in no version, and the last one stays", async () => {
  const player = await newPlayer(server);
  await once(player, "greedy");
  const good = await head(player, "greedy");
  await once(player, "greedy");
  assert.equal((await head(player, "greedy")).id, good.id);
});

test("a service that is stopped in play keeps what the game had saved", async () => {
  const storage = join(directory, "stopped");
  const start = async (): Promise<Kite> => startKite({ games: [join(directory, "diary")], sessions: 4, storage });
  const first = await start();
  const player = await newPlayer({ base: first.base, storage });
  await begin({ base: first.base, storage }, player, "diary");
  await first.stop();
  const second = await start();
  try {
    const [version, ...others] = await versions({ base: second.base, storage }, player, "diary");
    assert.ok(version !== undefined && others.length === 0, `${others.length}`);
    assert.deepEqual(readdirSync(storage).filter((name) => name === "rescue"), []);
  } finally {
    await second.stop();
  }
});

test("a save that cannot be read starts no game without it, and is not lost", async () => {
  const storage = join(directory, "locked");
  const at = async (work: (server: Server) => Promise<void>): Promise<void> => {
    const kite = await startKite({ games: [join(directory, "diary")], sessions: 4, storage });
    await work({ base: kite.base, storage }).finally(() => kite.stop());
  };
  const lines = async (server: Server): Promise<number> => {
    const [newest] = await versions(server, player, "diary");
    const file = untar(await archiveOf(server, player, newest?.id ?? "")).get(DIARY_FILE);
    return Buffer.from(file ?? []).toString().trim().split("\n").length;
  };
  let player = "";
  await at(async (server) => {
    player = await newPlayer(server);
    await finish(server, await begin(server, player, "diary"));
  });
  const key = readFileSync(join(storage, "save-key"));
  writeFileSync(join(storage, "save-key"), randomBytes(key.length));
  await at(async (server) => {
    await assert.rejects(begin(server, player, "diary"), /save_failed/);
    assert.equal((await versions(server, player, "diary")).length, 1);
  });
  writeFileSync(join(storage, "save-key"), key);
  await at(async (server) => {
    await finish(server, await begin(server, player, "diary"));
    assert.equal(await lines(server), 2);
  });
  assert.equal(existsSync(join(storage, "rescue")), false, "no game ran, so there is nothing of it to rescue");
});
