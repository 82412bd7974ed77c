/** A game whose save can be judged by itself, and a witness who remembers every version that was ever seen. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import { until } from "./programs.ts";
import { archiveOf, begin, scripted, untar, versions } from "./saves.ts";
import type { Running, Server, Version } from "./saves.ts";

/** The app. */
export const KEEPSAKES = "keepsakes";

/**
 * Every three seconds it keeps one more file, whose name is the hash of its bytes, and it throws none away: a version has all files of
 * the version that its play began with, and each file says whether it is whole.
 */
const SCRIPT = `mkdir -p "$HOME/.keepsakes"
( while :; do
  head -c 20000 /dev/urandom > "$HOME/new"
  mv "$HOME/new" "$HOME/.keepsakes/$(sha256sum < "$HOME/new" | cut -c 1-64)"
  sleep 3
done ) &`;

/** The shortest time between checkpoints that a manifest can ask for. */
export const CHECKPOINT_S = 10;

const SAVES = `[saves]\npaths = ["<home>/.keepsakes/**"]\nconcurrent = "branch"\ncheckpoint_s = ${CHECKPOINT_S}\n`;

/** The game's package, below a directory. */
export function keepsakes(directory: string): string {
  return scripted(directory, KEEPSAKES, SCRIPT, SAVES);
}

/** Begins a play. A service that was just started may need a moment to know its machine. */
export async function playKeepsakes(server: Server, player: string): Promise<Running> {
  return until("a machine for the play", () =>
    begin(server, player, KEEPSAKES).catch((error: unknown) => {
      if (/no_node/.test(String(error))) return undefined;
      throw error;
    }),
  );
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Remembers what was in every version that was ever listed. */
export class Witness {
  readonly #players: string[] = [];
  readonly #seen = new Map<string, ReadonlySet<string>>();

  /** How many versions were seen. */
  get versions(): number {
    return this.#seen.size;
  }

  add(player: string): void {
    this.#players.push(player);
  }

  /** Looks at all versions of all players: none is gone, none is another one than it was, each has what its parents have. */
  async look(server: Server): Promise<void> {
    const missing = new Set(this.#seen.keys());
    for (const player of this.#players) {
      // Oldest first: parents before what comes of them.
      for (const version of (await versions(server, player, KEEPSAKES)).toReversed()) {
        missing.delete(version.id);
        await this.#lookAt(server, player, version);
      }
    }
    assert.deepEqual([...missing], [], "versions that were listed once");
  }

  async #lookAt(server: Server, player: string, version: Version): Promise<void> {
    const files = untar(await archiveOf(server, player, version.id));
    for (const [path, bytes] of files) {
      assert.equal(path, `home/.keepsakes/${sha256(bytes)}`, `a file of version ${version.id} is not what it was`);
    }
    const names = new Set(files.keys());
    assert.ok(names.size > 0, `version ${version.id} has no file`);
    for (const parent of version.parents) {
      const lost = [...(this.#seen.get(parent) ?? [])].filter((name) => !names.has(name));
      assert.deepEqual(lost, [], `files of ${parent} that ${version.id}, which comes of it, does not have`);
    }
    const before = this.#seen.get(version.id);
    if (before === undefined) this.#seen.set(version.id, names);
    else assert.deepEqual(names, before, `version ${version.id}`);
  }
}
