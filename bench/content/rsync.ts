/** rsync with a daemon on the loopback: the like of pushing and fetching over a network. */

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";

import { freePort, start, until } from "e2e/lib/programs.ts";

import { rsyncTraffic } from "./figures.ts";
import type { Product } from "./product.ts";
import { sizeOf, timedCommand } from "./steps.ts";

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true));
    socket.on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

export const rsync: Product = {
  name: "rsync",
  async start(directory) {
    const [store, site] = [join(directory, "store"), join(directory, "site")];
    for (const made of [store, site]) mkdirSync(made);
    const port = await freePort();
    const configuration = join(directory, "rsyncd.conf");
    const identity = process.getuid?.() === 0 ? "uid = root\ngid = root\n" : "";
    writeFileSync(configuration, `use chroot = no\n${identity}[store]\npath = ${store}\nread only = no\n`);
    const daemon = start({
      name: "rsync daemon",
      command: "rsync",
      arguments: ["--daemon", "--no-detach", `--config=${configuration}`, `--port=${port}`, "--address=127.0.0.1"],
      log: join(directory, "rsyncd.log"),
    });
    await until("rsync daemon", () => answers(port));
    const url = `rsync://127.0.0.1:${port}/store/`;
    const servers = [daemon.pid];
    return {
      async push({ directory: source }) {
        const before = sizeOf(store);
        const around = { source, target: directory, servers };
        const { out, ...costs } = await timedCommand(around, "rsync", ["-a", "--delete", "--stats", `${source}/`, url]);
        return { ...costs, sent_bytes: rsyncTraffic(out).sent, stored_bytes: sizeOf(store) - before };
      },
      async sync() {
        const around = { source: store, target: directory, servers };
        const { out, ...costs } = await timedCommand(around, "rsync", ["-a", "--delete", "--stats", url, `${site}/`]);
        return { ...costs, sent_bytes: rsyncTraffic(out).received, stored_bytes: null };
      },
      async copy({ directory: source }) {
        const copy = join(directory, "copy");
        const around = { source, target: directory };
        const { wall_s, cpu_s } = await timedCommand(around, "rsync", ["-a", `${source}/`, `${copy}/`]);
        rmSync(copy, { recursive: true });
        return { wall_s, cpu_s, sent_bytes: null, stored_bytes: null };
      },
      stop: () => daemon.stop(),
    };
  },
};
