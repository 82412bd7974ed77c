//! One peer connection to the streamer: offer by WHEP, picture and sound in, input out.

import type { Channel } from "../core/input.js";
import { withStereo } from "../core/sdp.js";
import type { TransportCounters } from "../core/statistics.js";
import { DecodeError } from "../protocol/bytes.js";
import { decodeServerMessage, encodeClientMessage } from "../protocol/codec.js";
import {
  type ClientMessage,
  CONTROL_LABEL,
  MAX_MESSAGE_BYTES,
  MOTION_LABEL,
  PROTOCOL_VERSION,
  type ServerMessage,
} from "../protocol/wire.generated.js";
import { type Api, ApiError } from "../rest/client.js";
import { withoutBuffering } from "./platform.js";

export interface PeerHandlers {
  onAnswered(): void;
  /** Both channels are open. */
  onConnected(): void;
  /** It does not work (any more). `error` when the server refused the offer. Called once at most. */
  onLost(why: string, error: ApiError | null): void;
  onMessage(message: ServerMessage): void;
  /** The streamer sent what is no message: a bug worth a line in the console. */
  onNonsense(error: DecodeError): void;
}

export interface PeerOptions {
  readonly api: Api;
  readonly whep: string;
  readonly token: string;
  readonly iceServers: readonly RTCIceServer[];
}

/**
 * A connection that is "disconnected" may come back by itself (a Wi-Fi handover); after this long a new offer is faster.
 */
const DISCONNECTED_PATIENCE_MS = 1_000;
/** More than this waiting in a channel is a stalled network: motion would only get older. */
const MOTION_BACKLOG_BYTES = 16 * 1024;

export class Peer {
  readonly #connection: RTCPeerConnection;
  readonly #options: PeerOptions;
  readonly #handlers: PeerHandlers;
  readonly #control: RTCDataChannel;
  readonly #motion: RTCDataChannel;
  readonly #abort = new AbortController();
  readonly video: MediaStreamTrack;
  readonly audio: MediaStreamTrack;
  #location: string | null = null;
  #disconnectedTimer: ReturnType<typeof setTimeout> | undefined;
  #isConnected = false;
  #isOver = false;

  constructor(options: PeerOptions, handlers: PeerHandlers) {
    this.#options = options;
    this.#handlers = handlers;
    this.#connection = new RTCPeerConnection({ iceServers: [...options.iceServers], bundlePolicy: "max-bundle" });
    this.#control = this.#connection.createDataChannel(CONTROL_LABEL, { ordered: true });
    this.#motion = this.#connection.createDataChannel(MOTION_LABEL, { ordered: false, maxRetransmits: 0 });
    for (const channel of [this.#control, this.#motion]) {
      channel.binaryType = "arraybuffer";
      channel.onopen = () => this.#opened();
      channel.onmessage = (event: MessageEvent<unknown>) => this.#received(event.data);
    }
    this.#control.onclose = () => this.#lost("the control channel was closed", null);
    const video = this.#connection.addTransceiver("video", { direction: "recvonly" });
    const audio = this.#connection.addTransceiver("audio", { direction: "recvonly" });
    preferCodecs(video);
    withoutBuffering(video.receiver);
    withoutBuffering(audio.receiver);
    this.video = video.receiver.track;
    this.audio = audio.receiver.track;
    this.#connection.onconnectionstatechange = () => this.#connectionChanged();
  }

  /** Sends the offer. Without waiting for candidates: the streamer learns ours from their first packets. */
  async start(): Promise<void> {
    const { api, whep, token } = this.#options;
    try {
      const offer = await this.#connection.createOffer();
      await this.#connection.setLocalDescription({ type: "offer", sdp: withStereo(offer.sdp ?? "") });
      const sdp = this.#connection.localDescription?.sdp ?? "";
      const answer = await api.offer(whep, token, sdp, this.#abort.signal);
      this.#location = answer.location;
      if (this.#isOver) return this.#farewell();
      await this.#connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      this.#handlers.onAnswered();
    } catch (error) {
      if (this.#isOver) return;
      if (error instanceof ApiError) this.#lost(error.message, error);
      else this.#lost(`the answer cannot be used: ${error instanceof Error ? error.message : String(error)}`, null);
    }
  }

  #opened(): void {
    if (this.#isConnected || this.#control.readyState !== "open" || this.#motion.readyState !== "open") return;
    this.#isConnected = true;
    this.send("control", { type: "hello", version: PROTOCOL_VERSION });
    this.#handlers.onConnected();
  }

  #connectionChanged(): void {
    clearTimeout(this.#disconnectedTimer);
    const state = this.#connection.connectionState;
    if (state === "failed" || state === "closed") this.#lost(`the connection ${state}`, null);
    if (state !== "disconnected") return;
    const give = (): void => this.#lost("the connection was disconnected", null);
    this.#disconnectedTimer = setTimeout(give, DISCONNECTED_PATIENCE_MS);
  }

  #received(data: unknown): void {
    if (!(data instanceof ArrayBuffer)) return;
    let message: ServerMessage;
    try {
      message = decodeServerMessage(new Uint8Array(data));
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      if (!error.unknownType) this.#handlers.onNonsense(error);
      return;
    }
    this.#handlers.onMessage(message);
  }

  send(channel: Channel, message: ClientMessage): void {
    const target = channel === "control" ? this.#control : this.#motion;
    if (target.readyState !== "open") return;
    if (channel === "motion" && target.bufferedAmount > MOTION_BACKLOG_BYTES) return;
    const bytes = encodeClientMessage(message);
    if (bytes.length > MAX_MESSAGE_BYTES) return;
    try {
      target.send(bytes);
    } catch {
      // Only a full buffer throws here: the network has stood still for megabytes of reliable messages.
      this.#lost("the control channel is full", null);
    }
  }

  async counters(): Promise<TransportCounters | null> {
    if (this.#isOver) return null;
    const report = await this.#connection.getStats();
    return readCounters(report, performance.now());
  }

  #lost(why: string, error: ApiError | null): void {
    if (this.#isOver) return;
    this.close();
    this.#handlers.onLost(why, error);
  }

  /** Closes and tells the server. The handlers hear nothing more. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#disconnectedTimer);
    this.#abort.abort();
    this.#connection.onconnectionstatechange = null;
    for (const channel of [this.#control, this.#motion]) {
      channel.onopen = null;
      channel.onmessage = null;
      channel.onclose = null;
    }
    this.#connection.close();
    this.#farewell();
  }

  #farewell(): void {
    if (this.#location === null) return;
    // The streamer notices by itself when this is lost.
    this.#options.api.endPeer(this.#location, this.#options.token).catch(() => {});
    this.#location = null;
  }
}

/**
 * H.264 first, because hardware decodes it everywhere; then VP8, which every browser has. Others only move back: when one is left
 * out, Firefox writes feedback lines of formats that its offer no longer has, which other implementations refuse.
 */
function preferCodecs(transceiver: RTCRtpTransceiver): void {
  const rank = ({ mimeType, sdpFmtpLine }: RTCRtpCodec): number => {
    const name = mimeType.toLowerCase();
    if (name === "video/h264") return sdpFmtpLine?.includes("packetization-mode=1") ? 0 : 1;
    return name === "video/vp8" ? 2 : 3;
  };
  const codecs = RTCRtpReceiver.getCapabilities("video")?.codecs ?? [];
  transceiver.setCodecPreferences?.([...codecs].sort((a, b) => rank(a) - rank(b)));
}

interface InboundVideo {
  readonly type: "inbound-rtp";
  readonly kind: "video" | "audio";
  readonly bytesReceived?: number;
  readonly packetsReceived?: number;
  readonly packetsLost?: number;
  readonly framesDecoded?: number;
  readonly totalDecodeTime?: number;
  readonly freezeCount?: number;
  readonly frameWidth?: number;
  readonly frameHeight?: number;
  readonly codecId?: string;
}

function readCounters(report: RTCStatsReport, atMs: number): TransportCounters | null {
  let video: InboundVideo | null = null;
  report.forEach((entry: InboundVideo) => {
    if (entry.type === "inbound-rtp" && entry.kind === "video") video = entry;
  });
  const found = video as InboundVideo | null;
  if (found === null) return null;
  const codec = found.codecId === undefined ? null : (report.get(found.codecId) as { mimeType?: string } | undefined);
  return {
    atMs,
    bytes: found.bytesReceived ?? 0,
    packets: found.packetsReceived ?? 0,
    packetsLost: found.packetsLost ?? 0,
    framesDecoded: found.framesDecoded ?? 0,
    decodeS: found.totalDecodeTime ?? 0,
    freezes: found.freezeCount ?? 0,
    codec: codec?.mimeType?.replace("video/", "") ?? null,
    width: found.frameWidth ?? 0,
    height: found.frameHeight ?? 0,
  };
}
