//! Saves of the test server: those of whoever asks, because its tests have one player at a time.

import { randomUUID } from "node:crypto";
import type { Problem, SaveList, SaveVersion } from "../../src/rest/types.js";
import { problem } from "./problem.js";

/** A list, an archive, nothing, or a refusal. */
export type SavesAnswer = SaveList | string | null | Problem;

const NO_SAVE = problem(422, "invalid_save", "This is no archive.");

export class TestSaves {
  /** Newest first. */
  versions: SaveVersion[] = [];
  /** Contents of archives by versions. */
  readonly #archives = new Map<string, string>();

  add(app: string, more: Partial<SaveVersion> = {}, archive = ""): SaveVersion {
    const version: SaveVersion = {
      id: `sav_${randomUUID().replaceAll("-", "")}`,
      app,
      parents: [],
      is_newest: true,
      bytes: archive.length,
      files: 1,
      kind: "final",
      settled: true,
      created_at: new Date().toISOString(),
      ...more,
    };
    this.versions.unshift(version);
    this.#archives.set(version.id, archive);
    return version;
  }

  /** `undefined` for a path that is none of saves. */
  handle(method: string, path: string, query: URLSearchParams, body: string): SavesAnswer | undefined {
    const [, brought] = /^\/v1\/players\/me\/apps\/(.+)\/saves$/.exec(path) ?? [];
    if (brought !== undefined) return body === "" ? NO_SAVE : this.#follow(brought, body);
    const found = /^\/v1\/players\/me\/saves(?:\/(.+)\/(archive|restore))?$/.exec(path);
    if (found === null) return undefined;
    const [, id, what] = found;
    const app = query.get("app");
    if (id === undefined && method === "DELETE") {
      this.versions = this.versions.filter((version) => app !== null && version.app !== app);
      return null;
    }
    if (id === undefined) return this.#of(app);
    const version = this.versions.find((each) => each.id === id);
    if (version === undefined) return problem(404, "save_unknown", "You have no such version of a save.");
    const archive = this.#archives.get(id) ?? "";
    return what === "archive" ? archive : this.#follow(version.app, archive);
  }

  /** A new version after all of the newest. */
  #follow(app: string, archive: string): SaveList {
    this.versions = this.versions.map((each) => (each.app === app ? { ...each, is_newest: false } : each));
    this.add(app, { kind: "chosen" }, archive);
    return this.#of(app);
  }

  #of(app: string | null): SaveList {
    return { saves: this.versions.filter((version) => app === null || version.app === app) };
  }
}
