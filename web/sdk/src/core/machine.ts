//! A play as a state machine: two coupled machines, the link to the coordinator and the peer connection to the streamer.
//!
//! ```text
//! link:  opening -> open -> waiting -> opening ...       peer:  idle -> offering -> connected -> waiting -> offering ...
//! ```
//! A session that waits for a place has no streamer: nothing is offered until it has one, and nothing is given up.
//! Takes `(event, now)`, gives actions and a state to show. Losing the link interrupts no stream; losing the peer is
//! answered with a new offer. Deliberately absent: sockets, timers, the DOM.

import type { Party, QueuePlace, Session } from "../rest/types.js";

/** What the player sees. */
export type PlayerState =
  /** The first connection is being made. `sentence` is the server's, when it said something. */
  | { readonly name: "connecting"; readonly sentence: string | null }
  /** All places are taken. `queue` is how the wait stands, as soon as the server said it. */
  | { readonly name: "queued"; readonly sentence: string; readonly queue: QueuePlace | null }
  /** A place is kept until then (RFC 3339): `accept` takes it. */
  | { readonly name: "offered"; readonly sentence: string; readonly until: string }
  /** Pictures flow. */
  | { readonly name: "playing" }
  /** Pictures stopped; the old one stays. `attempt` counts from 1; `sentence` is the server's, when the reason is on its side. */
  | { readonly name: "reconnecting"; readonly attempt: number; readonly sentence: string | null }
  /** The last state. */
  | { readonly name: "ended"; readonly reason: string; readonly party: Party; readonly sentence: string };

export type MachineEvent =
  | { readonly type: "start" }
  | { readonly type: "linkOpened" }
  | { readonly type: "linkSession"; readonly session: Session }
  | { readonly type: "linkQueue"; readonly queue: QueuePlace }
  | { readonly type: "linkLost" }
  /** The player wants the place that is offered. */
  | { readonly type: "accept" }
  /** The server knows nothing of the session (any more), asked because the link was lost. */
  | { readonly type: "sessionGone"; readonly kind: string; readonly sentence: string }
  /** The server answered the offer: the peers speak to each other from now on. */
  | { readonly type: "peerAnswered" }
  | { readonly type: "peerConnected" }
  | { readonly type: "peerLost" }
  | {
      readonly type: "offerRefused";
      readonly isTemporary: boolean;
      readonly kind: string;
      readonly sentence: string;
      readonly retryAfterMs: number | null;
    }
  /** The streamer says that the session ends. The link's word on it is awaited a moment, because it carries the sentence. */
  | { readonly type: "streamEnded"; readonly reason: string }
  | { readonly type: "leave" }
  | { readonly type: "wake" };

export type Action = "openLink" | "closeLink" | "checkSession" | "startPeer" | "stopPeer" | "sayLeave" | "sayAccept";

type LinkState =
  | { readonly name: "opening" }
  | { readonly name: "open" }
  | { readonly name: "waiting"; readonly untilMs: number };

type PeerState =
  | { readonly name: "idle" }
  /** The session has no place yet. */
  | { readonly name: "placeless" }
  | { readonly name: "offering"; readonly deadlineMs: number }
  | { readonly name: "connected" }
  | { readonly name: "waiting"; readonly untilMs: number };

/**
 * How long one attempt may take from the offer to pictures. The first offer waits on the server for the game to start
 * (up to 30 s by the manifest's default); a reconnect finds it running, and a long wait would only delay the next try.
 */
const FIRST_ATTEMPT_MS = 60_000;
const NEXT_ATTEMPT_MS = 8_000;
/** After so long without pictures the play is given up; servers keep a lost player's game for less. */
const GIVE_UP_MS = 120_000;
/** How long the link's own word on the end is awaited. */
const END_PATIENCE_MS = 3_000;
/** Ends of a game after which its session goes on with another start of it. */
const GOES_ON: readonly string[] = ["moved", "restarted"];

/** 0, 250, 500, 1000, 2000, 4000 and so on ms: at once, then gently, so that an outage ends without a stampede. */
export function backoffMs(attempt: number): number {
  return attempt <= 1 ? 0 : Math.min(4_000, 125 * 2 ** Math.min(attempt - 1, 10));
}

export class SessionMachine {
  #link: LinkState = { name: "opening" };
  #linkAttempt = 0;
  #peer: PeerState = { name: "idle" };
  #peerAttempt = 0;
  #wasPlaying = false;
  /** Its node was lost, or somebody had it started again: the game starts again, and takes as long as the first time. */
  #isStartedAnew = false;
  #lostSinceMs: number | null = null;
  #revision = -1;
  #session: Session | null = null;
  #queue: QueuePlace | null = null;
  #ending: { readonly reason: string; readonly untilMs: number } | null = null;
  #ended: Extract<PlayerState, { name: "ended" }> | null = null;

  get state(): PlayerState {
    if (this.#ended !== null) return this.#ended;
    if (this.#peer.name === "connected") return { name: "playing" };
    const sentence = this.#session?.sentence ?? null;
    if (this.#wasPlaying) {
      const isMoved = this.#peer.name === "placeless" || this.#isStartedAnew;
      return { name: "reconnecting", attempt: Math.max(1, this.#peerAttempt), sentence: isMoved ? sentence : null };
    }
    const state = this.#session?.state;
    if (state?.state === "queued") return { name: "queued", sentence: sentence ?? "", queue: this.#queue };
    if (state?.state === "offered") return { name: "offered", sentence: sentence ?? "", until: state.until };
    return { name: "connecting", sentence };
  }

  /** When `wake` is due, or `null`. */
  get wakeAtMs(): number | null {
    if (this.#ended !== null) return null;
    const times = [
      this.#link.name === "waiting" ? this.#link.untilMs : null,
      this.#peer.name === "waiting" ? this.#peer.untilMs : null,
      this.#peer.name === "offering" ? this.#peer.deadlineMs : null,
      this.#ending?.untilMs ?? null,
    ].filter((time) => time !== null);
    return times.length === 0 ? null : Math.min(...times);
  }

  /** Takes an event and returns what is to be done, in order. */
  step(event: MachineEvent, nowMs: number): readonly Action[] {
    if (this.#ended !== null) return [];
    switch (event.type) {
      case "start":
        // The offer does not wait for the link: the server holds it until the game is ready.
        this.#linkAttempt = 1;
        return ["openLink", ...this.#offer(nowMs)];
      case "linkOpened":
        this.#link = { name: "open" };
        this.#linkAttempt = 0;
        return [];
      case "linkSession":
        return this.#heard(event.session, nowMs);
      case "linkQueue":
        this.#queue = event.queue;
        return [];
      case "accept":
        return this.#session?.state.state === "offered" ? ["sayAccept"] : [];
      case "linkLost":
        return this.#linkLost(nowMs);
      case "sessionGone":
        return this.#end(event.kind, "platform", event.sentence);
      case "peerAnswered":
        if (this.#peer.name === "offering") this.#peer = { name: "offering", deadlineMs: nowMs + NEXT_ATTEMPT_MS };
        return [];
      case "peerConnected":
        if (this.#peer.name !== "offering") return [];
        this.#peer = { name: "connected" };
        this.#peerAttempt = 0;
        this.#wasPlaying = true;
        this.#isStartedAnew = false;
        this.#lostSinceMs = null;
        return [];
      case "peerLost":
        return this.#peerLost(nowMs, null);
      case "offerRefused":
        if (event.isTemporary) return this.#peerLost(nowMs, event.retryAfterMs);
        // The link usually knows better why; `session_ended` here only means that it was slower.
        if (event.kind === "session_ended" && this.#link.name === "open") return this.#streamEnded(event.kind, nowMs);
        return this.#end(event.kind, "platform", event.sentence);
      case "streamEnded":
        if (GOES_ON.includes(event.reason)) return this.#waitForPlace(true);
        return this.#streamEnded(event.reason, nowMs);
      case "leave":
        return ["sayLeave", ...this.#end("player_left", "player", "You left the game.")];
      case "wake":
        return this.#wake(nowMs);
    }
  }

  #heard(session: Session, nowMs: number): readonly Action[] {
    if (session.revision < this.#revision) return [];
    this.#revision = session.revision;
    this.#session = session;
    switch (session.state.state) {
      case "ended":
        return this.#end(session.state.reason, session.state.party, session.sentence);
      case "requested":
      case "queued":
      case "offered":
      case "recovering":
        return this.#waitForPlace(session.state.state === "recovering");
      case "stopping":
        return GOES_ON.includes(session.state.reason) ? this.#waitForPlace(true) : [];
      default:
        return this.#peer.name === "placeless" ? this.#offer(nowMs) : [];
    }
  }

  #waitForPlace(isStartedAnew: boolean): readonly Action[] {
    if (isStartedAnew) this.#isStartedAnew = true;
    if (this.#peer.name === "placeless") return [];
    this.#peer = { name: "placeless" };
    // What the lost streamer said of an end was said of itself.
    this.#ending = null;
    this.#peerAttempt = 0;
    this.#lostSinceMs = null;
    return ["stopPeer"];
  }

  #linkLost(nowMs: number): readonly Action[] {
    if (this.#link.name === "waiting") return [];
    this.#linkAttempt += 1;
    this.#link = { name: "waiting", untilMs: nowMs + backoffMs(this.#linkAttempt) };
    // A WebSocket does not say why it was refused; the session does.
    return ["checkSession"];
  }

  #offer(nowMs: number): readonly Action[] {
    this.#peerAttempt += 1;
    const isRunning = (this.#wasPlaying && !this.#isStartedAnew) || this.#peerAttempt > 1;
    const patience = isRunning ? NEXT_ATTEMPT_MS : FIRST_ATTEMPT_MS;
    this.#peer = { name: "offering", deadlineMs: nowMs + patience };
    return ["startPeer"];
  }

  #peerLost(nowMs: number, retryAfterMs: number | null): readonly Action[] {
    const isTrying = this.#peer.name === "offering" || this.#peer.name === "connected";
    if (!isTrying || this.#ending !== null) return [];
    this.#lostSinceMs ??= nowMs;
    if (nowMs - this.#lostSinceMs > GIVE_UP_MS) {
      const sentence = "The connection could not be restored. Check your network, and play again.";
      return this.#end("connection_lost", "player", sentence);
    }
    const waitMs = Math.max(backoffMs(this.#peerAttempt + 1), Math.min(retryAfterMs ?? 0, 10_000));
    this.#peer = { name: "waiting", untilMs: nowMs + (this.#peerAttempt === 0 ? 0 : waitMs) };
    return ["stopPeer"];
  }

  #streamEnded(reason: string, nowMs: number): readonly Action[] {
    this.#peer = { name: "idle" };
    this.#ending ??= { reason, untilMs: nowMs + END_PATIENCE_MS };
    return ["stopPeer"];
  }

  #wake(nowMs: number): readonly Action[] {
    if (this.#ending !== null && nowMs >= this.#ending.untilMs) {
      return this.#end(this.#ending.reason, "platform", "The session is over.");
    }
    const actions: Action[] = [];
    if (this.#link.name === "waiting" && nowMs >= this.#link.untilMs) {
      this.#link = { name: "opening" };
      actions.push("openLink");
    }
    if (this.#peer.name === "offering" && nowMs >= this.#peer.deadlineMs) actions.push(...this.#peerLost(nowMs, null));
    if (this.#peer.name === "waiting" && nowMs >= this.#peer.untilMs) actions.push(...this.#offer(nowMs));
    return actions;
  }

  #end(reason: string, party: Party, sentence: string): readonly Action[] {
    this.#ended = { name: "ended", reason, party, sentence };
    this.#peer = { name: "idle" };
    return ["stopPeer", "closeLink"];
  }
}
