/**
 * `./x bench fleet [--nodes 2000] [--sessions 10000] [--rate 200] [--seconds 30]`
 *
 * One control plane on PostgreSQL, thousands of simulated nodes with mutual TLS and as many players with open links, all over real sockets of
 * the loopback, on one machine with the database: how long a claim takes while so many come and go each second, and what a restart by
 * kill -9 costs. The last line of standard output is one JSON object.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { APP, startPlane } from "e2e/lib/plane.ts";
import type { Plane } from "e2e/lib/plane.ts";
import { until } from "e2e/lib/programs.ts";
import { startSwarm } from "e2e/lib/swarm.ts";
import type { Swarm, SwarmReport } from "e2e/lib/swarm.ts";

import { newResults } from "../lib/results.ts";

const say = (what: unknown): void => void process.stderr.write(`${typeof what === "string" ? what : JSON.stringify(what)}\n`);

/** Of a process's memory, in MiB. */
function memory(pid: number, field: "VmRSS" | "VmHWM"): number {
  const line = readFileSync(`/proc/${pid}/status`, "utf8").match(new RegExp(`${field}:\\s+(\\d+) kB`));
  return Math.round(Number(line?.[1] ?? 0) / 1024);
}

/** Seconds of processor time that a process has used. */
function cpu(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

interface Restart {
  /** Until the control plane answers, with all sessions. */
  readonly restart_s: number;
  /** Until all nodes and players have their links again. */
  readonly links_s: number;
  readonly kept: number;
}

async function restart(plane: Plane, swarm: Swarm, before: SwarmReport): Promise<Restart> {
  const replica = plane.replicas[0];
  if (replica === undefined) throw new Error("there is no replica");
  await replica.kill();
  const began = performance.now();
  await replica.start();
  const limits = (await (await fetch(`${replica.base}/v1/limits`)).json()) as { readonly sessions_used: number };
  const restart_s = (performance.now() - began) / 1000;
  if (limits.sessions_used < before.connected) say(`after the restart it knows ${limits.sessions_used} sessions`);
  const back = await until(
    "all links",
    async () => {
      const report = await swarm.ask("report");
      return report.linked >= before.linked && report.nodes >= before.nodes ? report : undefined;
    },
    120_000,
    100,
  );
  const links_s = (performance.now() - began) / 1000;
  return { restart_s, links_s, kept: back.connected };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      nodes: { type: "string", default: "2000" },
      sessions: { type: "string", default: "10000" },
      rate: { type: "string", default: "200" },
      seconds: { type: "string", default: "30" },
    },
  });
  const [nodes, sessions, rate, seconds] = [values.nodes, values.sessions, values.rate, values.seconds].map(Number) as [number, number, number, number];
  if (![nodes, sessions, rate, seconds].every((value) => value > 0)) throw new Error("--nodes, --sessions, --rate, --seconds: numbers above 0");
  const results = newResults("fleet");
  const plane = await startPlane();
  try {
    const control = plane.replicas[0]?.program;
    if (control === undefined) throw new Error("there is no replica");
    say(`${nodes} nodes join ...`);
    const swarm = await startSwarm({
      urls: plane.replicas.map((replica) => replica.base),
      links: plane.replicas.map((replica) => replica.link),
      token: plane.token,
      app: APP,
      nodes,
      places: Math.ceil((sessions * 1.2) / nodes),
    });
    say(`${sessions} players come, ${rate} each second ...`);
    const filled = await swarm.ask("fill", sessions, rate);
    say(filled);
    say(`${rate} come and ${rate} leave each second, for ${seconds} s ...`);
    const [cpuBefore, clockBefore] = [cpu(control.pid), performance.now()];
    const churned = await swarm.ask("churn", seconds, rate);
    const cores = (cpu(control.pid) - cpuBefore) / ((performance.now() - clockBefore) / 1000);
    say(churned);
    const rss = memory(control.pid, "VmRSS");
    const settled = await until("that all who came are there", async () => {
      const report = await swarm.ask("report");
      return report.connected >= sessions ? report : undefined;
    }, 60_000, 200);
    const restarted = await restart(plane, swarm, settled);
    say(restarted);
    say("all leave ...");
    const drained = await swarm.ask("drain", rate * 2);
    say(drained);
    const stuck = Number(plane.query("SELECT count(*) FROM session WHERE state <> 'ended'"));
    swarm.stop();
    const result = {
      claim_ms: { p50: churned.claim_ms.p50, p99: churned.claim_ms.p99 },
      ready_ms: { p50: churned.ready_ms.p50, p99: churned.ready_ms.p99 },
      starts_per_s: churned.claim_ms.count / seconds,
      nodes: filled.nodes,
      sessions: settled.connected,
      sessions_kept_over_restart: restarted.kept,
      restart_s: restarted.restart_s,
      links_back_s: restarted.links_s,
      rss_mb: rss,
      control_cores: cores,
      violations: drained.violations,
      stuck,
      runs: { filled, churned, settled, drained },
    };
    writeFileSync(join(results, "result.json"), JSON.stringify(result, undefined, 1));
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } finally {
    await plane.stop();
  }
}

await main();
