/** Runs one step and counts what it costs: wall time, and CPU time of everybody who worked. The same for every product. */

import { execFileSync, spawn } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";

import { rounded } from "../lib/percentiles.ts";
import { timeOf } from "./figures.ts";

/** What a step cost, until everything was on the disk. */
export interface Costs {
  readonly wall_s: number;
  readonly cpu_s: number;
}

/** Kernel clock ticks per second; 100 on every Linux that Debian ships. */
const TICKS_PER_SECOND = 100;

/** Runs it to its end; the output is standard output, the rest goes with the error. */
export async function output(command: string, args: readonly string[], directory?: string): Promise<string> {
  const { out } = await finished(command, args, directory);
  return out;
}

async function finished(command: string, args: readonly string[], directory?: string): Promise<{ out: string; err: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, LC_ALL: "C" },
      ...(directory === undefined ? {} : { cwd: directory }),
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (bytes: Buffer) => (out += bytes.toString()));
    child.stderr.on("data", (bytes: Buffer) => (err += bytes.toString()));
    child.on("error", (error) => reject(new Error(`${command} cannot be started: ./x bench installs it`, { cause: error })));
    child.on("close", (code) => {
      if (code === 0) resolve({ out, err });
      else reject(new Error(`${[command, ...args].join(" ")} ended with ${code}:\n${err.slice(-2000)}${out.slice(-2000)}`));
    });
  });
}

/** CPU seconds so far of programs that go on running: theirs, and those of children that they waited for. */
function cpuSoFar(roots: readonly number[]): number {
  const fields = new Map<number, string[]>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const text = readFileSync(`/proc/${name}/stat`, "utf8");
      fields.set(Number(name), text.slice(text.lastIndexOf(")") + 2).split(" "));
    } catch {
      // The process ended between listing and reading.
    }
  }
  const isBelow = (pid: number): boolean => {
    for (let at = pid; at > 1; at = Number(fields.get(at)?.[1] ?? 0)) if (roots.includes(at)) return true;
    return false;
  };
  const used = [...fields].filter(([pid]) => isBelow(pid)).flatMap(([, stat]) => stat.slice(11, 15).map(Number));
  return used.reduce((sum, ticks) => sum + ticks, 0) / TICKS_PER_SECOND;
}

/** Writes everything out, so that no step pays for what an earlier one left. */
function settle(directory: string): void {
  execFileSync("sync", ["-f", directory]);
}

/** Reads every file below once, so that every product finds its source in memory. */
export function warm(directory: string): void {
  execFileSync("sh", ["-c", 'find "$0" -type f -print0 | xargs -0 -r cat > /dev/null', directory]);
}

/** Bytes of all files below. */
export function sizeOf(directory: string): number {
  return Number(execFileSync("du", ["-s", "--apparent-size", "--block-size=1", directory], { encoding: "utf8" }).split("\t")[0]);
}

/** What is around a step. */
export interface Around {
  /** Read once before. */
  readonly source: string;
  /** Its file system is written out before, and at the end of the counted time. */
  readonly target: string;
  /** Servers that work for it. */
  readonly servers?: readonly number[];
}

/** A command, until what it wrote is on the disk. */
export async function timedCommand(around: Around, command: string, args: readonly string[]): Promise<Costs & { out: string }> {
  warm(around.source);
  settle(around.target);
  const before = cpuSoFar(around.servers ?? []);
  const script = 'TIMEFORMAT="took %3R %3U %3S"; target=$1; shift; time { "$@" && sync -f "$target"; }';
  const { out, err } = await finished("bash", ["-c", script, "bash", around.target, command, ...args]);
  const { wallS, cpuS } = timeOf(err);
  return { wall_s: wallS, cpu_s: rounded(cpuS + cpuSoFar(around.servers ?? []) - before, 3), out };
}

/** Something that servers do, until what they wrote is on the disk. */
export async function timedWork<T>(around: Around, work: () => Promise<T>): Promise<Costs & { result: T }> {
  warm(around.source);
  settle(around.target);
  const before = cpuSoFar(around.servers ?? []);
  const beganMs = performance.now();
  const result = await work();
  settle(around.target);
  const wallMs = performance.now() - beganMs;
  return { wall_s: rounded(wallMs / 1000, 3), cpu_s: rounded(cpuSoFar(around.servers ?? []) - before, 3), result };
}
