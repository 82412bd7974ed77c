//! Runs in a tab of its own and plays the streamer: a real peer connection that sends a moving picture and a tone, decodes
//! what the player sends with the generated codec, and answers.

import { decodeClientMessage, encodeServerMessage } from "../../src/protocol/codec.js";
import type { ClientMessage, ServerMessage } from "../../src/protocol/wire.generated.js";

export interface StreamerPage {
  answer(offer: string): Promise<string>;
  send(channel: "kite-control" | "kite-motion", message: ServerMessage): void;
  sendBytes(channel: "kite-control" | "kite-motion", bytes: number[]): void;
  /** What arrived since the last call, pings and reports left out. */
  take(): { channel: string; message: ClientMessage }[];
  reports(): ClientMessage[];
  /** Closes the connection without a word, as a crash would. */
  vanish(): void;
  /** Stops answering pings, as a dead network would. */
  mute(muted: boolean): void;
  peers(): number;
}

declare global {
  interface Window {
    streamer: StreamerPage;
  }
}

const received: { channel: string; message: ClientMessage }[] = [];
const reported: ClientMessage[] = [];
const channels = new Map<string, RTCDataChannel>();
let connection: RTCPeerConnection | null = null;
let peers = 0;
let isMuted = false;

const canvas = document.createElement("canvas");
canvas.width = 640;
canvas.height = 360;
const context = canvas.getContext("2d", { alpha: false });
let count = 0;
setInterval(() => {
  if (context === null) return;
  count += 1;
  context.fillStyle = `hsl(${count % 360} 70% 45%)`;
  context.fillRect(0, 0, 640, 360);
  context.fillStyle = "#fff";
  context.fillRect((count * 7) % 600, 150, 40, 60);
}, 33);

function send(channel: string, message: ServerMessage): void {
  const target = channels.get(channel);
  if (target?.readyState === "open") target.send(encodeServerMessage(message));
}

function heard(channel: string, bytes: ArrayBuffer): void {
  const message = decodeClientMessage(new Uint8Array(bytes));
  if (message.type === "ping") {
    if (isMuted) return;
    const serverTimeUs = Math.floor(performance.now() * 1000) >>> 0;
    return send("kite-motion", { type: "pong", clientTimeUs: message.clientTimeUs, serverTimeUs });
  }
  if (message.type === "report") {
    reported.push(message);
    return;
  }
  received.push({ channel, message });
  if (message.type === "hello") {
    send("kite-control", { type: "hello", version: 1, width: 640, height: 360, framesPerSecond: 30 });
  }
}

window.streamer = {
  async answer(offer) {
    connection?.close();
    channels.clear();
    const peer = new RTCPeerConnection();
    connection = peer;
    peers += 1;
    peer.ondatachannel = ({ channel }) => {
      channel.binaryType = "arraybuffer";
      channels.set(channel.label, channel);
      const transfer = `${channel.label} ${channel.ordered ? "ordered" : "unordered"} ${channel.maxRetransmits ?? "reliable"}`;
      received.push({
        channel: "opened",
        message: { type: "text", stamp: { sequence: 0, clientTimeUs: 0 }, text: transfer },
      });
      channel.onmessage = (event: MessageEvent<ArrayBuffer>) => heard(channel.label, event.data);
    };
    const audio = new AudioContext();
    const tone = audio.createOscillator();
    const output = audio.createMediaStreamDestination();
    tone.connect(output);
    tone.start();
    for (const track of [...canvas.captureStream(30).getVideoTracks(), ...output.stream.getAudioTracks()]) {
      peer.addTrack(track, new MediaStream([track]));
    }

    await peer.setRemoteDescription({ type: "offer", sdp: offer });

    await peer.setLocalDescription();
    // Like the streamer, all candidates are in the answer.
    while ((peer.iceGatheringState as string) !== "complete") {
      await new Promise((resolve) => peer.addEventListener("icegatheringstatechange", resolve, { once: true }));
    }
    return peer.localDescription?.sdp ?? "";
  },
  send,
  sendBytes(channel, bytes) {
    channels.get(channel)?.send(new Uint8Array(bytes));
  },
  take: () => received.splice(0),
  reports: () => reported.splice(0),
  vanish() {
    connection?.close();
    connection = null;
  },
  mute(muted) {
    isMuted = muted;
  },
  peers: () => peers,
};
