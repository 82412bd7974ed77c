/** What an installation holds of the machine, to be compared before and after. */

import type { Dirent } from "node:fs";
import { existsSync, readFileSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";

/** Everything that a session might leave behind. */
export interface Holdings {
  /** Processes of the installation but for the node's echo, like `4711 kite-streamer`. */
  readonly processes: readonly string[];
  /** Mount points that any process of the installation or this one sees below the installation's directory. */
  readonly mounts: readonly string[];
  /** Control groups with `kite` in their path. */
  readonly cgroups: readonly string[];
  /** Files and sockets below the installation's directory, except what is kept on purpose: the database and the logs of ended instances. */
  readonly files: readonly string[];
  /** Open descriptors of the main process. */
  readonly descriptors: number;
  /** Threads of the main process. */
  readonly threads: number;
  /** Memory of the main process that is not shared. */
  readonly privateBytes: number;
}

function text(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    // The process ended meanwhile.
    return "";
  }
}

/** The node's own, which is there as long as the node: no session leaves it behind, and it may come after the first look. */
const ECHO = "kite-echo";

/** The process, its descendants, and orphans that still speak of the directory in their environment or command line. */
function processes(root: number, directory: string): string[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = new Map<number, number>();
  for (const pid of pids) {
    const stat = text(`/proc/${pid}/stat`);
    parents.set(pid, Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const below = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parents.get(at)) if (at === root) return true;
    return false;
  };
  const speaks = (pid: number): boolean =>
    pid !== process.pid && [text(`/proc/${pid}/cmdline`), text(`/proc/${pid}/environ`)].some((part) => part.includes(directory));
  const named = pids.filter((pid) => below(pid) || speaks(pid)).map((pid) => `${pid} ${text(`/proc/${pid}/comm`).trim()}`);
  return named.filter((line) => !line.endsWith(` ${ECHO}`));
}

/** What is in a directory; nothing in one that is gone, as that of an instance that ends meanwhile. */
function entries(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

function cgroups(): string[] {
  const found: string[] = [];
  const visit = (directory: string, depth: number): void => {
    for (const { name } of entries(directory).filter((entry) => entry.isDirectory())) {
      const path = join(directory, name);
      if (name.includes("kite") && !name.endsWith(".echo")) found.push(path);
      if (depth < 6) visit(path, depth + 1);
    }
  };
  if (existsSync("/sys/fs/cgroup")) visit("/sys/fs/cgroup", 0);
  return found;
}

function files(directory: string): string[] {
  const found: string[] = [];
  const visit = (path: string): void => {
    for (const entry of entries(path)) {
      const inner = join(path, entry.name);
      if (/\/data\/logs$|\.sqlite|\.db/.test(inner)) continue;
      found.push(inner);
      if (entry.isDirectory()) visit(inner);
    }
  };
  visit(directory);
  return found;
}

/** Looks at an installation: the process id of `kite up` and the directory that holds all its files. */
export function holdings(pid: number, directory: string): Holdings {
  const status = text(`/proc/${pid}/status`);
  const rollup = text(`/proc/${pid}/smaps_rollup`);
  const kb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1] ?? 0);
  const mounts = [text("/proc/self/mountinfo"), text(`/proc/${pid}/mountinfo`)]
    .flatMap((table) => table.split("\n"))
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(directory));
  return {
    processes: processes(pid, directory),
    mounts: [...new Set(mounts)],
    cgroups: cgroups(),
    files: existsSync(directory) ? files(directory) : [],
    descriptors: existsSync(`/proc/${pid}/fd`) ? readdirSync(`/proc/${pid}/fd`).length : 0,
    threads: Number(/^Threads:\s+(\d+)/m.exec(status)?.[1] ?? 0),
    privateBytes: (kb("Private_Clean") + kb("Private_Dirty")) * 1024,
  };
}

/** What is there now and was not before, as sentences. Counters may grow by `slack`, memory by `memorySlackBytes`. */
export function leaks(before: Holdings, after: Holdings, slack = 8, memorySlackBytes = 32 * 2 ** 20): string[] {
  const found: string[] = [];
  for (const kind of ["processes", "mounts", "cgroups", "files"] as const) {
    for (const item of after[kind]) if (!before[kind].includes(item)) found.push(`${kind}: ${item}`);
  }
  for (const kind of ["descriptors", "threads"] as const) {
    if (after[kind] > before[kind] + slack) found.push(`${kind}: ${before[kind]} before, ${after[kind]} after`);
  }
  if (after.privateBytes > before.privateBytes + memorySlackBytes) {
    found.push(`memory: ${before.privateBytes} bytes before, ${after.privateBytes} after`);
  }
  return found;
}

/** Where the descriptors of a process lead: says what leaked. */
export function descriptors(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((name) => {
    try {
      return `${name} -> ${readlinkSync(`/proc/${pid}/fd/${name}`)}`;
    } catch {
      return `${name} -> gone`;
    }
  });
}

/** Is there such a process, zombies not counted? */
export function isAlive(pid: number): boolean {
  const stat = text(`/proc/${pid}/stat`);
  return existsSync(`/proc/${pid}`) && statSync(`/proc/${pid}`).isDirectory() && !/\) [ZX] /.test(stat);
}
