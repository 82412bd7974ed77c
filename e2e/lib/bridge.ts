/** Machines on this one: network namespaces on a bridge, each with an address that can be cut off. Needs root. */

import { spawnSync } from "node:child_process";

import { run } from "./disk.ts";

/** Runs what removes something that may not be there. */
function tidy(command: string, ...args: readonly string[]): void {
  spawnSync(command, args, { encoding: "utf8" });
}

/** Whoever makes it removes it. What an earlier run left of the same name goes first, with all that runs there. */
export class Bridge {
  /**
   * @param name Of the bridge, at most 12 letters; each namespace is called as its member.
   * @param network The first three numbers of its addresses: of a private kind that is nobody's on machines that run tests.
   */
  constructor(
    readonly name: string,
    private readonly network: string,
    private readonly members: readonly string[],
  ) {
    this.remove();
    run("ip", "link", "add", name, "type", "bridge");
    run("ip", "address", "add", `${this.host}/24`, "dev", name);
    run("ip", "link", "set", name, "up");
    for (const [index, member] of members.entries()) {
      const inside = `${member}n`;
      run("ip", "address", "add", `${this.wayTo(index)}/24`, "dev", name);
      run("ip", "netns", "add", member);
      run("ip", "link", "add", this.#outside(index), "type", "veth", "peer", "name", inside, "netns", member);
      run("ip", "link", "set", this.#outside(index), "master", name, "up");
      run("ip", "-n", member, "address", "add", `${this.address(index)}/24`, "dev", inside);
      run("ip", "-n", member, "link", "set", inside, "up");
      run("ip", "-n", member, "link", "set", "lo", "up");
    }
  }

  /** The address of this machine there. */
  get host(): string {
    return `${this.network}.1`;
  }

  /** The address of a member. */
  address(index: number): string {
    return `${this.network}.${index + 11}`;
  }

  /** An address of this machine that can stand for a member's, with something in the way. */
  wayTo(index: number): string {
    return `${this.network}.${index + 111}`;
  }

  /** Nothing comes to it or from it any more. */
  cut(index: number): void {
    run("ip", "link", "set", this.#outside(index), "down");
  }

  /** It is there again. */
  join(index: number): void {
    run("ip", "link", "set", this.#outside(index), "up");
  }

  remove(): void {
    for (const [index, member] of this.members.entries()) {
      for (const pid of spawnSync("ip", ["netns", "pids", member], { encoding: "utf8" }).stdout.split("\n").filter(Boolean)) {
        tidy("kill", "-9", pid);
      }
      tidy("ip", "netns", "delete", member);
      tidy("ip", "link", "delete", this.#outside(index));
    }
    tidy("ip", "link", "delete", this.name);
  }

  #outside(index: number): string {
    return `${this.members[index] ?? ""}h`;
  }
}
