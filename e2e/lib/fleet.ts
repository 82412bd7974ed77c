/** A fleet on this machine: a control plane, and nodes in network namespaces of their own, each with an address that can be cut off. */

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { Bridge } from "./bridge.ts";
import { run } from "./disk.ts";
import { ROOT, WIDE_LIMITS, binary, newDirectory } from "./kite.ts";
import { freePort, start, until } from "./programs.ts";
import type { Program } from "./programs.ts";

/** What can be chosen for a fleet. */
export interface FleetOptions {
  /** The site of each node, in turn; `here` for all when not given. */
  readonly sites?: readonly string[];
  /** Players are told another address of each node, where something may stand in the way: {@link FleetNode.way}. */
  readonly withWay?: boolean;
}

/** Media ports of a node with a way before it: its only session's, and the echo's. */
const WAY_PORTS: readonly [number, number] = [50_000, 50_001];

export interface FleetNode {
  readonly name: string;
  /** Its UDP ports: where players send to, and where it listens. */
  readonly way: readonly { readonly from: string; readonly to: string }[];
  /** As the control plane calls it. */
  readonly id: string;
  program: Program;
  /** Ends the agent as a power cut would, and everything with it. */
  kill(): void;
  /** Nothing comes to it or from it any more. */
  cut(): void;
}

export interface Fleet {
  readonly base: string;
  readonly nodes: readonly FleetNode[];
  /** Kills the control plane with -9 and starts it again; how long it did not answer, in milliseconds. */
  restartControl(): Promise<number>;
  /** A request of the operator. */
  ask(method: string, path: string, body?: unknown): Promise<unknown>;
  /** The operator's `kite` with these arguments; what it says. */
  kite(...args: readonly string[]): string;
  stop(): Promise<void>;
}

interface Listed {
  readonly nodes: readonly { readonly id: string; readonly name: string; readonly health: string }[];
}

/** Starts a control plane and so many nodes with a place each, and waits until all are well. */
export async function startFleet(games: readonly string[], count: number, options: FleetOptions = {}): Promise<Fleet> {
  const directory = newDirectory("kite-fleet-");
  writeFileSync(join(directory, "config.toml"), `${WIDE_LIMITS}\n[store]\ndir = "${join(directory, "store")}"\n`);
  const names = Array.from({ length: count }, (_, index) => `kite-test-${index + 1}`);
  const bridge = new Bridge("kite-test", "10.91.77", names);
  const [port, nodePort] = [await freePort(), await freePort()];
  const base = `http://127.0.0.1:${port}`;
  const data = join(directory, "control");
  const kite = (...args: readonly string[]): string => run(binary("kite"), ...args, "--url", base, "--data", data);
  let starts = 0;
  const startControl = async (): Promise<Program> => {
    starts += 1;
    const program = start({
      name: "kite control",
      command: binary("kite"),
      arguments: [
        "control",
        `--listen=127.0.0.1:${port}`,
        `--nodes=${bridge.host}:${nodePort}`,
        `--data=${data}`,
        `--config=${join(directory, "config.toml")}`,
        `--web=${join(ROOT, "web", "app", "dist")}`,
        ...games.map((game) => `--games=${game}`),
      ],
      log: join(directory, `control-${starts}.log`),
    });
    await until("kite control", async () => (await fetch(`${base}/healthz`).catch(() => undefined))?.ok, 30_000);
    return program;
  };
  let control = await startControl();
  const ask = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const token = run("cat", join(data, "operator-token"));
    const response = await fetch(`${base}${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  const startNode = (name: string, index: number): Program => {
    const address = bridge.address(index);
    const site = options.sites?.[index] ?? "here";
    const token = kite("fleet", "token", `--site=${site}`);
    const own = join(directory, name);
    mkdirSync(own, { mode: 0o755 });
    return start({
      name: `kite node ${name}`,
      command: "ip",
      arguments: [
        "netns", "exec", name, binary("kite"), "node",
        `--control=${bridge.host}:${nodePort}`,
        `--join=${token}`,
        `--name=${name}`,
        `--data=${join(own, "data")}`,
        `--config=${join(directory, "config.toml")}`,
        `--runtime=${join(own, "run")}`,
        `--advertise=${options.withWay ? bridge.wayTo(index) : address}`,
        // The control plane asks the witness directly, whatever stands in the players' way.
        ...(options.withWay ? [`--ports=${WAY_PORTS.join("-")}`, `--witness=${address}:0`] : []),
        "--sessions=1",
      ],
      log: join(directory, `${name}.log`),
    });
  };
  const programs = names.map(startNode);
  const listed = await until(
    "all nodes are well",
    async () => {
      const { nodes } = (await ask("GET", "/v1/nodes")) as Listed;
      return nodes.length === count && nodes.every((node) => node.health === "alive") ? nodes : undefined;
    },
    60_000,
  );
  const nodes = names.map((name, index): FleetNode => {
    const id = listed.find((node) => node.name === name)?.id ?? "";
    const program = programs[index] as Program;
    return {
      name,
      id,
      program,
      way: WAY_PORTS.map((port) => ({ from: `${bridge.wayTo(index)}:${port}`, to: `${bridge.address(index)}:${port}` })),
      kill: () => process.kill(program.pid, "SIGKILL"),
      cut: () => bridge.cut(index),
    };
  });
  return {
    base,
    nodes,
    ask,
    kite,
    async restartControl() {
      process.kill(control.pid, "SIGKILL");
      const began = performance.now();
      await until("the end of kite control", async () => ((await fetch(`${base}/healthz`).catch(() => undefined)) ? undefined : true));
      control = await startControl();
      return performance.now() - began;
    },
    async stop() {
      for (const program of programs) await program.stop().catch(() => undefined);
      await control.stop().catch(() => undefined);
      bridge.remove();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
