/** CPU time and memory of process trees, read from /proc. */

import { readFileSync, readdirSync } from "node:fs";

/** Kernel clock ticks per second; 100 on every Linux that Debian ships. */
const TICKS_PER_SECOND = 100;

/** What a process used so far. */
export interface Usage {
  readonly pid: number;
  readonly name: string;
  /** CPU time of the process and of its children that ended and were waited for. */
  readonly cpuS: number;
  readonly proportionalBytes: number;
}

interface Entry {
  readonly pid: number;
  readonly parent: number;
  readonly name: string;
  readonly cpuS: number;
}

function entry(pid: number): Entry | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const close = text.lastIndexOf(")");
    const fields = text.slice(close + 2).split(" ");
    return {
      pid,
      name: text.slice(text.indexOf("(") + 1, close),
      parent: Number(fields[1]),
      cpuS: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
    };
  } catch {
    // The process ended between listing and reading.
    return undefined;
  }
}

/** Memory in bytes, shared pages divided among their users, so that a sum over processes counts each page once. */
function proportionalBytes(pid: number): number {
  try {
    const match = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Every process whose name begins so is the measured application, not the product. */
export function isProbe(name: string): boolean {
  return name.startsWith("probe-");
}

/** All processes under these roots, the roots included. */
export function tree(roots: readonly number[]): Usage[] {
  const entries = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => entry(Number(name)))
    .filter((found) => found !== undefined);
  const children = groupByParent(entries);
  const byPid = new Map(entries.map((found) => [found.pid, found]));
  const result = new Map<number, Usage>();
  const visit = (pid: number): void => {
    const found = byPid.get(pid);
    if (!found || result.has(pid)) return;
    result.set(pid, { pid, name: found.name, cpuS: found.cpuS, proportionalBytes: proportionalBytes(pid) });
    for (const child of children.get(pid) ?? []) visit(child.pid);
  };
  for (const root of roots) visit(root);
  return [...result.values()];
}

function groupByParent(entries: readonly Entry[]): Map<number, Entry[]> {
  const groups = new Map<number, Entry[]>();
  for (const found of entries) groups.set(found.parent, [...(groups.get(found.parent) ?? []), found]);
  return groups;
}

/** CPU seconds used between two looks, by process name; processes that began in between count from zero. */
export function cpuBetween(before: readonly Usage[], after: readonly Usage[]): Map<string, number> {
  const earlier = new Map(before.map((usage) => [usage.pid, usage.cpuS]));
  const result = new Map<string, number>();
  for (const usage of after) {
    const used = usage.cpuS - (earlier.get(usage.pid) ?? 0);
    result.set(usage.name, (result.get(usage.name) ?? 0) + used);
  }
  return result;
}
