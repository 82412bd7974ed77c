/** A session without a browser: REST by fetch, media by `probe-receiver`. */

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

import { binary } from "./kite.ts";

/** Picture and rate that are asked for. */
export interface Format {
  readonly width: number;
  readonly height: number;
  readonly framesPerSecond: number;
}

/** Figures of one second, as the receiver writes them. */
export interface Second {
  readonly frames: number;
  /** Frames that came after a gap: a decoder would show damage or wait. */
  readonly incomplete: number;
  readonly bytes: number;
}

/** A session that streams. */
export interface Session {
  readonly receiverPid: number;
  /** Every second since the media began. */
  readonly seconds: readonly Second[];
  /** Why the receiver ended, when it did. */
  readonly failure: () => string | undefined;
  stop(): Promise<void>;
}

async function checked(response: Response): Promise<Response> {
  if (!response.ok) throw new Error(`${response.status} ${response.url}: ${await response.text()}`);
  return response;
}

/** Plays an app at a format and counts what arrives. */
export async function play(base: string, app: string, format: Format): Promise<Session> {
  const spec = { width: format.width, height: format.height, frames_per_second: format.framesPerSecond };
  const created = await checked(
    await fetch(`${base}/v1/sessions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ app, spec, resizable: false }),
    }),
  );
  const { session, token, whep } = (await created.json()) as { session: { id: string }; token: string; whep: string };
  const authorization = `Bearer ${token}`;

  const receiver = spawn(binary("probe-receiver"), [], { stdio: ["pipe", "pipe", "pipe"] });
  let problem = "";
  let failure: string | undefined;
  receiver.stderr.on("data", (bytes: Buffer) => (problem = `${problem}${bytes.toString()}`.slice(-2000)));
  receiver.on("exit", (code) => (failure = `receiver ended with ${code}: ${problem}`));
  const seconds: Second[] = [];
  const lines = createInterface({ input: receiver.stdout });
  const offer = await new Promise<string>((resolve, reject) => {
    receiver.on("exit", () => reject(new Error(failure)));
    lines.on("line", (line) => {
      const message = JSON.parse(line) as Second | { offer: string };
      if ("offer" in message) resolve(message.offer);
      else seconds.push(message);
    });
  });
  const answered = await checked(
    await fetch(`${base}${whep}`, {
      method: "POST",
      headers: { "content-type": "application/sdp", authorization },
      body: offer,
    }),
  );
  receiver.stdin.write(`${JSON.stringify({ answer: await answered.text() })}\n`);
  return {
    receiverPid: receiver.pid ?? 0,
    seconds,
    failure: () => failure,
    async stop() {
      receiver.stdin.end();
      await fetch(`${base}/v1/sessions/${session.id}`, { method: "DELETE", headers: { authorization } });
    },
  };
}
