/**
 * Selkies 2.1 from PyPI, with its own page, at its own defaults (H.264 by x264, 8 Mbit/s constant bitrate, sound on): on an Xvfb of the
 * measured size with the X11 probe, or as its own Wayland compositor with the Wayland probe.
 */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

import { binary } from "e2e/lib/kite.ts";
import { freePort, start, until } from "e2e/lib/programs.ts";
import type { Program } from "e2e/lib/programs.ts";
import type { Format } from "e2e/lib/session.ts";

import { freeDisplay } from "../lib/displays.ts";
import { inboundVideoBytes } from "./traffic.ts";
import type { Display, Product, Running } from "./product.ts";

const VERSION = "2.1.0";

/** How the stream travels. */
type Mode = "websockets" | "webrtc";

function cache(): string {
  const base = process.env["KITE_CACHE"] ?? join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "kite");
  return join(base, `selkies-${VERSION}`);
}

/** Makes the virtual environment when it is not there, and returns the program. */
export function installSelkies(): string {
  const directory = cache();
  const program = join(directory, "bin", "selkies");
  const python = ["python3.12", "python3.11", "python3.13", "python3"].find((name) => {
    try {
      execFileSync(name, ["-c", "import sys; assert sys.version_info >= (3, 9)"], { stdio: "ignore" });
      return true;
    } catch {
      return false;
    }
  });
  if (existsSync(program)) return program;
  if (python === undefined) throw new Error("Selkies needs Python 3.9 or newer");
  process.stderr.write(`installing selkies ${VERSION} from PyPI into ${directory}\n`);
  mkdirSync(directory, { recursive: true });
  execFileSync(python, ["-m", "venv", directory], { stdio: ["ignore", 2, 2] });
  execFileSync(join(directory, "bin", "pip"), ["install", "--quiet", `selkies==${VERSION}`], { stdio: ["ignore", 2, 2] });
  return program;
}

/** Bytes that the server's side of every TCP connection to this port sent. */
function tcpBytesSent(port: number): number {
  const text = execFileSync("ss", ["-tinH", "sport", "=", `:${port}`], { encoding: "utf8" });
  return [...text.matchAll(/bytes_sent:(\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
}

/** What runs, and where. */
interface Started {
  readonly programs: Program[];
  readonly port: number;
  readonly home: string;
}

/** Starts what a Selkies needs, the probe and Selkies itself. */
async function startPrograms(format: Format, directory: string, mode: Mode, display: Display): Promise<Started> {
  const selkies = installSelkies();
  const number = freeDisplay();
  const port = await freePort();
  // Short: Selkies makes Unix sockets in it, and their paths end at 107 bytes.
  const home = mkdtempSync(join(tmpdir(), "selkies-"));
  const places = { HOME: home, XDG_RUNTIME_DIR: home, PULSE_SERVER: `unix:${home}/pulse.socket`, PULSE_RUNTIME_PATH: home };
  const x11 = { ...places, DISPLAY: `:${number}` };
  const wayland = { ...places, WAYLAND_DISPLAY: "wayland-1" };

  const programs: Program[] = [];
  const run = (name: string, command: string, parameters: string[], environment: Record<string, string>): void => {
    programs.push(start({ name, command, arguments: parameters, environment, directory: home, log: join(directory, `${name}.log`) }));
  };
  try {
    run("pulseaudio", "pulseaudio", pulseAudio(home), places);
    await until("pulseaudio", () => existsSync(`${home}/pulse.socket`));
    if (display === "x11") {
      run("Xvfb", "Xvfb", [`:${number}`, "-screen", "0", `${format.width}x${format.height}x24`, "-nolisten", "tcp"], places);
      await until("Xvfb", () => existsSync(`/tmp/.X11-unix/X${number}`));
      run("probe", binary("probe-x11"), [], x11);
    }
    run("selkies", selkies, options(format, port, mode, display), display === "x11" ? x11 : places);
    await until("selkies", async () => (await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined))?.ok, 40_000);
    if (display === "wayland") {
      await until("Selkies' compositor", () => existsSync(join(home, wayland.WAYLAND_DISPLAY)));
      run("probe", binary("probe-wayland"), [], wayland);
    }
  } catch (error) {
    await Promise.all(programs.map((running) => running.stop()));
    throw error;
  }
  return { programs, port, home };
}

function pulseAudio(home: string): string[] {
  return [
    "-n",
    "--daemonize=no",
    "--exit-idle-time=-1",
    "--load=module-null-sink sink_name=output",
    `--load=module-native-protocol-unix auth-anonymous=1 socket=${home}/pulse.socket`,
  ];
}

function options(format: Format, port: number, mode: Mode, display: Display): string[] {
  return [
    "--addr=127.0.0.1",
    "--enable-basic-auth=false",
    `--port=${port}`,
    `--mode=${mode}`,
    `--wayland=${display === "wayland"}`,
    `--manual-width=${format.width}`,
    `--manual-height=${format.height}`,
    `--framerate=${format.framesPerSecond}`,
  ];
}

/** Selkies in one of its two modes, with a game of one of two kinds. */
export function selkies(mode: Mode, display: Display): Product {
  return {
    name: display === "x11" ? `selkies-${mode}` : `selkies-${display}-${mode}`,
    display,
    async start(format, directory): Promise<Running> {
      const { programs, port, home } = await startPrograms(format, directory, mode, display);
      const url = `http://127.0.0.1:${port}/`;
      return {
        url,
        roots: programs.filter((program) => program.name !== "probe").map((program) => program.pid),
        displayNames: ["Xvfb"],
        async prepare() {},
        async traffic(page) {
          return mode === "webrtc"
            ? { bytes: await inboundVideoBytes(page), by: "inbound-rtp video of getStats" }
            : { bytes: tcpBytesSent(port), by: "TCP bytes sent by the server, sound included" };
        },
        async stop() {
          for (const program of programs.toReversed()) await program.stop();
          rmSync(home, { recursive: true, force: true });
        },
      };
    },
  };
}
