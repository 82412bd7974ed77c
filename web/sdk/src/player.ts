//! `createPlayer`: one play in one element. The shell around the cores: sockets, timers and the DOM meet here.

import { ClockSync, toWireUs } from "./core/clock.js";
import { type Disposer, Disposers, Emitter, type ListenOptions } from "./core/events.js";
import { streamSize } from "./core/geometry.js";
import { Input } from "./core/input.js";
import { LatencyLedger } from "./core/ledger.js";
import { type Action, type MachineEvent, type PlayerState, SessionMachine } from "./core/machine.js";
import {
  type FrameCount,
  FrameCounter,
  frameReport,
  type PictureKind,
  type PlayerStatistics,
  type TransportCounters,
  transportRates,
} from "./core/statistics.js";
import { captureGamepads, type GamepadCapture } from "./dom/gamepads.js";
import { captureKeyboard, clipboardWriter, releaseOnBlur } from "./dom/keyboard.js";
import { Link } from "./dom/link.js";
import { addKeyboardButton } from "./dom/on-screen-keyboard.js";
import { Peer } from "./dom/peer.js";
import { createPicture, type Picture, type ShownPicture } from "./dom/picture.js";
import { capturePointer, type PointerCapture } from "./dom/pointer.js";
import { createScreens, type Screens } from "./dom/screens.js";
import { Sound } from "./dom/sound.js";
import { createTouchPad, STANDARD_PAD, TOUCH_PAD_SLOT, type TouchPad } from "./dom/touch-pad.js";
import { View } from "./dom/view.js";
import {
  type PointerMode,
  PROTOCOL_VERSION,
  type ServerMessage,
  type StreamStatistics,
} from "./protocol/wire.generated.js";
import { Api, ApiError, sessionPath } from "./rest/client.js";
import type { InputProfile, Session, StreamSpec } from "./rest/types.js";

export interface PlayerOptions {
  /** What `POST /v1/sessions` returned. */
  readonly session: {
    readonly id: string;
    readonly token: string;
    /** Where the server is; the page's origin when not given. */
    readonly base?: string;
    /** Paths on the server, as the answer told them. */
    readonly link?: string;
    readonly whep?: string;
  };
  /** Of the app, from the catalogue. Everything is sent when not given. */
  readonly input?: InputProfile;
  /** The spec that was asked for: resizes stay within its pixels. */
  readonly spec?: StreamSpec;
  /** False when the picture keeps its size whatever the element's is. */
  readonly resizable?: boolean;
  /** TURN and STUN servers; none are needed where the streamer is reachable. */
  readonly iceServers?: readonly RTCIceServer[];
  /** A way of showing frames; `<video>`, which is the fastest, when not given. */
  readonly picture?: PictureKind;
  /** `visible`, the default: a place that is offered is taken as soon as the page is seen. `asked`: when the player says so. */
  readonly accepts?: "visible" | "asked";
  /** False when the page shows the end itself. */
  readonly showsEnd?: boolean;
  /** Disposes of the player when aborted. */
  readonly signal?: AbortSignal;
}

export interface PlayerEvents {
  readonly state: PlayerState;
  /** Once a second while pictures flow. */
  readonly statistics: PlayerStatistics;
  /** At each frame that was drawn. */
  readonly frame: ShownPicture;
  /** The link's word on the session. */
  readonly session: Session;
  /** The last event but `state`. */
  readonly end: Extract<PlayerState, { name: "ended" }>;
  /** Something went wrong that the player goes on with: a lost connection, a message that cannot be read. */
  readonly error: Error;
  /** The stream's size. */
  readonly size: { readonly width: number; readonly height: number };
  readonly pointer: { readonly mode: PointerMode; readonly isLocked: boolean };
  /** True while the browser waits for a click before it lets sound out. */
  readonly soundBlocked: boolean;
  /** The game copied text. */
  readonly clipboard: string;
}

export interface Player {
  readonly state: PlayerState;
  /** Listens until the disposer is called. */
  on<Name extends keyof PlayerEvents>(
    name: Name,
    listener: (event: PlayerEvents[Name]) => void,
    options?: ListenOptions,
  ): Disposer;
  /** The newest figures. */
  statistics(): PlayerStatistics;
  /** Draws the figures over the picture. */
  showStatistics(on: boolean): void;
  /** Call it from a click. */
  fullscreen(on: boolean): Promise<void>;
  muted: boolean;
  /** 0 to 1. */
  setVolume(volume: number): void;
  /** Types text into the game, as from an on-screen keyboard. */
  text(text: string): void;
  /** Gives the keyboard to the game. */
  focus(): void;
  /** Takes the place that is offered; nothing in other states. */
  accept(): void;
  /** Ends the session. */
  leave(): void;
  /** Stops everything and empties the element. A session that was not left can be joined again. */
  dispose(): void;
}

/** Plays the session inside of `element`, which it fills. */
export function createPlayer(element: HTMLElement, options: PlayerOptions): Player {
  return new SessionPlayer(element, options);
}

const EVERYTHING: InputProfile = {
  keyboard: true,
  mouse: "auto",
  gamepads: 4,
  keys: {},
  touch: { mode: "pointer" },
};

/** Pings give the clocks' difference and notice a dead path. More would cost the uplink, fewer would notice late. */
const PING_MS = 250;
/** Without an answer for so long, and to so many pings, the path is dead: WebRTC itself needs five seconds and more. */
const SILENCE_MS = 2_000;
const SILENCE_PINGS = 6;
const REPORT_MS = 1_000;
/** So many frames that waited in a row are told at once: the streamer can end it. As in the streamer. */
const QUEUE_FRAMES = 8;
const NO_FRAMES: FrameCount = { shown: 0, framesPerSecond: 0, longestGapMs: 0, slackMs: null, waiting: 0 };
/** After so long without motion the last one is said again, because its datagram may have been lost. */
const MOTION_REST_MS = 50;

class SessionPlayer implements Player {
  readonly #options: PlayerOptions;
  readonly #api: Api;
  readonly #emitter = new Emitter<PlayerEvents>();
  readonly #disposers = new Disposers();
  readonly #machine = new SessionMachine();
  readonly #clock = new ClockSync();
  readonly #ledger = new LatencyLedger(this.#clock);
  readonly #frames = new FrameCounter();
  readonly #input: Input;
  readonly #view: View;
  readonly #screens: Screens;
  readonly #picture: Picture;
  readonly #sound: Sound;
  readonly #pointer: PointerCapture;
  readonly #gamepads: GamepadCapture;
  readonly #clipboard: ReturnType<typeof clipboardWriter>;
  #touchPad: TouchPad | null = null;
  #link: Link | null = null;
  #peer: Peer | null = null;
  #wakeTimer: ReturnType<typeof setTimeout> | undefined;
  #motionTimer: ReturnType<typeof setTimeout> | undefined;
  #state: PlayerState;
  #hasPicture = false;
  #awaitsFrame = true;
  #isPointerLocked = false;
  #lastPongMs = 0;
  #unansweredPings = 0;
  #counters: TransportCounters | null = null;
  #stream: StreamStatistics | null = null;
  #statistics: PlayerStatistics;
  #showsStatistics = false;
  #isReporting = false;
  #isDisposed = false;

  constructor(element: HTMLElement, options: PlayerOptions) {
    this.#options = options;
    this.#api = new Api({ base: options.session.base });
    const profile = options.input ?? EVERYTHING;
    this.#state = this.#machine.state;
    this.#input = new Input(
      {
        send: (channel, message) => {
          this.#peer?.send(channel, message);
          if (channel === "motion") this.#repeatMotionSoon();
        },
        stamped: (sequence, timeMs) => this.#ledger.input(sequence, timeMs),
      },
      profile.keys,
    );
    this.#view = new View(element, () => this.#sendSize());
    const { root } = this.#view;
    this.#picture = createPicture((shown) => this.#shown(shown), options.picture);
    root.append(this.#picture.element);
    this.#screens = createScreens(root, options.showsEnd ?? true, () => this.accept());
    this.#sound = new Sound(root, (blocked) => this.#emitter.emit("soundBlocked", blocked));
    this.#clipboard = clipboardWriter(root);
    this.#pointer = capturePointer({
      root,
      input: this.#input,
      mouse: profile.mouse,
      touch: profile.touch.mode,
      place: this.#view.place,
      onLock: (isLocked) => this.#pointerLocked(isLocked),
    });
    this.#gamepads = captureGamepads(
      this.#input,
      () => (this.#touchPad?.usesPad ? TOUCH_PAD_SLOT + 1 : 0),
      profile.gamepads,
    );
    if (profile.keyboard) this.#disposers.add(captureKeyboard(root, this.#input));
    this.#disposers.add(releaseOnBlur(root, this.#input), this.#touchControlsOnTouch(root, profile));
    this.#statistics = this.#figures(NO_FRAMES, null);
    this.#startTimers();
    const seen = (): void => {
      if (this.#state.name === "offered") this.#acceptWhenSeen();
    };
    document.addEventListener("visibilitychange", seen);
    this.#disposers.add(() => document.removeEventListener("visibilitychange", seen));
    options.signal?.addEventListener("abort", () => this.dispose(), { once: true });
    this.#step({ type: "start" });
    root.focus({ preventScroll: true });
  }

  // What the machine hears and does.

  #step(event: MachineEvent): void {
    if (this.#isDisposed) return;
    const actions = this.#machine.step(event, performance.now());
    for (const action of actions) this.#act(action);
    this.#sleep();
    this.#showState();
  }

  #sleep(): void {
    clearTimeout(this.#wakeTimer);
    const { wakeAtMs } = this.#machine;
    if (wakeAtMs === null) return;
    // A timer may fire a hair too early; the machine would then find nothing due.
    const delayMs = Math.max(0, Math.ceil(wakeAtMs - performance.now()) + 1);
    this.#wakeTimer = setTimeout(() => this.#step({ type: "wake" }), delayMs);
  }

  #showState(): void {
    const state = this.#machine.state;
    const before = this.#state;
    const isSame = JSON.stringify(state) === JSON.stringify(before);
    this.#state = state;
    this.#screens.show(state, this.#hasPicture && (state.name !== "playing" || !this.#awaitsFrame));
    if (isSame) return;
    this.#emitter.emit("state", state);
    if (state.name === "offered") this.#acceptWhenSeen();
    if (state.name === "ended") this.#emitter.emit("end", state);
  }

  #act(action: Action): void {
    const { id, token, link } = this.#options.session;
    switch (action) {
      case "openLink":
        this.#link?.close();
        this.#link = new Link(this.#api.socketUrl(link ?? `${sessionPath(id)}/link`), token, {
          onOpened: () => this.#step({ type: "linkOpened" }),
          onLost: () => this.#step({ type: "linkLost" }),
          onTold: (told) => {
            if (told.type === "queue") return this.#step({ type: "linkQueue", queue: told.queue });
            this.#emitter.emit("session", told.session);
            this.#step({ type: "linkSession", session: told.session });
          },
        });
        return;
      case "closeLink":
        this.#link?.close();
        this.#link = null;
        return;
      case "sayLeave":
        this.#link?.send({ type: "leave" });
        this.#api.endSession(id, token).catch(() => {});
        return;
      case "sayAccept":
        this.#api.accept(id, token).then(
          (session) => this.#step({ type: "linkSession", session }),
          (error: unknown) => this.#emitter.emit("error", error instanceof Error ? error : new Error(String(error))),
        );
        return;
      case "checkSession":
        void this.#checkSession();
        return;
      case "startPeer":
        this.#startPeer();
        return;
      case "stopPeer":
        this.#peer?.close();
        this.#peer = null;
        return;
    }
  }

  /** Who looks at the page wants to play; who does not is asked when he comes back to it. */
  #acceptWhenSeen(): void {
    if (this.#options.accepts !== "asked" && document.visibilityState === "visible") this.accept();
  }

  async #checkSession(): Promise<void> {
    const { id, token } = this.#options.session;
    try {
      const session = await this.#api.session(id, token, this.#options.signal);
      this.#step({ type: "linkSession", session });
    } catch (error) {
      if (!(error instanceof ApiError) || error.isTemporary) return;
      this.#step({ type: "sessionGone", kind: error.kind, sentence: `${error.message} ${error.remedy}` });
    }
  }

  #startPeer(): void {
    const { id, token, whep } = this.#options.session;
    this.#peer?.close();
    const peer = new Peer(
      { api: this.#api, whep: whep ?? `${sessionPath(id)}/whep`, token, iceServers: this.#options.iceServers ?? [] },
      {
        onAnswered: () => this.#step({ type: "peerAnswered" }),
        onConnected: () => this.#connected(),
        onLost: (why, error) => this.#lost(why, error),
        onMessage: (message) => this.#received(message),
        onNonsense: (error) => this.#emitter.emit("error", error),
      },
    );
    this.#peer = peer;
    this.#picture.attach(peer.video);
    this.#sound.attach(peer.audio);
    void peer.start();
  }

  #connected(): void {
    this.#awaitsFrame = true;
    this.#clock.reset();
    this.#ledger.reset();
    this.#frames.reset();
    this.#counters = null;
    this.#lastPongMs = performance.now();
    this.#unansweredPings = 0;
    this.#input.reset();
    this.#sendSize();
    this.#step({ type: "peerConnected" });
  }

  #lost(why: string, error: ApiError | null): void {
    this.#emitter.emit("error", error ?? new Error(why));
    this.#peer = null;
    if (error === null || error.status === 0) return this.#step({ type: "peerLost" });
    const { isTemporary, kind, message, remedy, retryAfterMs } = error;
    this.#step({ type: "offerRefused", isTemporary, kind, sentence: `${message} ${remedy}`, retryAfterMs });
  }

  // What the streamer says.

  #received(message: ServerMessage): void {
    switch (message.type) {
      case "hello":
        if (message.version === PROTOCOL_VERSION) this.#sized(message);
        else
          this.#step({ type: "sessionGone", kind: "version_mismatch", sentence: "Reload this page and play again." });
        return;
      case "streamSize":
        return this.#sized(message);
      case "cursor":
        this.#view.cursor = message.value;
        return;
      case "pointerMode":
        this.#pointer.mode = message.value;
        return this.#pointerChanged();
      case "clipboard":
        this.#clipboard.write(message.text);
        return this.#emitter.emit("clipboard", message.text);
      case "rumble":
        return this.#gamepads.rumble(message.pad, message.strong, message.weak, message.durationMs);
      case "pong":
        this.#unansweredPings = 0;
        this.#lastPongMs = performance.now();
        return this.#clock.pong(message.clientTimeUs, message.serverTimeUs, this.#lastPongMs);
      case "frameMark":
        return this.#ledger.mark(message.value);
      case "statistics":
        this.#stream = message.value;
        return;
      case "ended":
        return this.#step({ type: "streamEnded", reason: message.reason });
      case "complaint":
        return this.#emitter.emit("error", new Error(`the streamer complains: ${message.text}`));
    }
  }

  #sized({ width, height }: { readonly width: number; readonly height: number }): void {
    this.#view.pictureSize = { width, height };
    this.#emitter.emit("size", { width, height });
  }

  // The picture.

  #shown(shown: ShownPicture): void {
    const { width, height } = this.#view.pictureSize;
    if (shown.width !== width || shown.height !== height) this.#sized(shown);
    this.#ledger.shown(shown);
    this.#frames.shown(shown.shownMs, shown.slackMs, shown.waited);
    if (this.#frames.waiting === QUEUE_FRAMES) void this.#report();
    if (this.#awaitsFrame) {
      this.#awaitsFrame = false;
      this.#hasPicture = true;
      this.#showState();
    }
    this.#emitter.emit("frame", shown);
  }

  #sendSize(): void {
    const spec = this.#options.spec;
    const { width, height } = this.#view.size;
    if (this.#options.resizable === false || width === 0 || height === 0) return;
    const maxPixels = spec === undefined ? Number.POSITIVE_INFINITY : spec.width * spec.height;
    this.#peer?.send("control", { type: "resize", ...streamSize({ width, height }, devicePixelRatio, maxPixels) });
  }

  #pointerLocked(isLocked: boolean): void {
    this.#isPointerLocked = isLocked;
    this.#pointerChanged();
  }

  #pointerChanged(): void {
    const { mode } = this.#pointer;
    const isLocked = this.#isPointerLocked;
    const canLock = matchMedia("(pointer: fine)").matches;
    this.#screens.hint(mode === "locked" && !isLocked && canLock ? "Click to hold the mouse · Esc lets it go" : null);
    this.#emitter.emit("pointer", { mode, isLocked });
  }

  /** The controls of a touch screen come with the first finger, or at once where a finger is all there is. */
  #touchControlsOnTouch(root: HTMLElement, profile: InputProfile): Disposer {
    const { mode, controls } = profile.touch;
    const abort = new AbortController();
    const show = (): void => {
      abort.abort();
      if (mode === "pad") {
        this.#touchPad = createTouchPad(controls?.length ? controls : STANDARD_PAD, this.#input);
        this.#picture.element.after(this.#touchPad.element);
      }
      if (profile.keyboard) addKeyboardButton(root, (text) => this.text(text));
    };
    if (matchMedia("(hover: none) and (pointer: coarse)").matches) show();
    const first = (event: PointerEvent): void => {
      if (event.pointerType === "touch") show();
    };
    if (!abort.signal.aborted) root.addEventListener("pointerdown", first, { signal: abort.signal });
    return () => abort.abort();
  }

  // Timers.

  #startTimers(): void {
    const ping = setInterval(() => this.#ping(), PING_MS);
    const report = setInterval(() => void this.#report(), REPORT_MS);
    this.#disposers.add(
      () => clearInterval(ping),
      () => clearInterval(report),
    );
  }

  #ping(): void {
    if (this.#state.name !== "playing" || this.#peer === null) return;
    const now = performance.now();
    // Both, because a page in the background is not called for a long time and then cannot have heard anything.
    if (this.#unansweredPings >= SILENCE_PINGS && now - this.#lastPongMs > SILENCE_MS) {
      this.#peer.close();
      this.#lost("the streamer is silent", null);
      return;
    }
    this.#unansweredPings += 1;
    this.#peer.send("motion", { type: "ping", clientTimeUs: toWireUs(now) });
  }

  #repeatMotionSoon(): void {
    clearTimeout(this.#motionTimer);
    this.#motionTimer = setTimeout(() => this.#input.repeatMotion(), MOTION_REST_MS);
  }

  async #report(): Promise<void> {
    const peer = this.#peer;
    if (peer === null || this.#state.name !== "playing" || this.#isReporting) return;
    this.#isReporting = true;
    const counters = await peer.counters().catch(() => null);
    this.#isReporting = false;
    if (this.#isDisposed || peer !== this.#peer || counters === null) return;
    const frames = this.#frames.take(performance.now());
    this.#statistics = this.#figures(frames, counters);
    this.#counters = counters;
    peer.send("control", { type: "report", value: frameReport(frames, this.#statistics) });
    if (this.#showsStatistics) this.#screens.statistics(this.#statistics);
    this.#emitter.emit("statistics", this.#statistics);
  }

  #figures({ shown, framesPerSecond, longestGapMs }: FrameCount, counters: TransportCounters | null): PlayerStatistics {
    const rates = counters === null ? null : transportRates(this.#counters, counters);
    return {
      picture: this.#picture.kind,
      codec: counters?.codec ?? null,
      width: this.#view.pictureSize.width,
      height: this.#view.pictureSize.height,
      framesPerSecond,
      bitrateKbps: rates?.bitrateKbps ?? 0,
      roundTripMs: this.#clock.roundTripMs,
      decodeMs: rates?.decodeMs ?? null,
      loss: rates?.loss ?? 0,
      dropped: Math.max(0, (rates?.framesDecoded ?? 0) - shown),
      longestGapMs,
      freezes: counters?.freezes ?? 0,
      latency: this.#ledger.summary(performance.now()),
      stream: this.#stream,
    };
  }

  // What the page can ask for.

  get state(): PlayerState {
    return this.#state;
  }

  on<Name extends keyof PlayerEvents>(
    name: Name,
    listener: (event: PlayerEvents[Name]) => void,
    options?: ListenOptions,
  ): Disposer {
    return this.#emitter.on(name, listener, options);
  }

  statistics(): PlayerStatistics {
    return { ...this.#statistics, latency: this.#ledger.summary(performance.now()) };
  }

  showStatistics(on: boolean): void {
    this.#showsStatistics = on;
    this.#screens.statistics(on ? this.#statistics : null);
  }

  fullscreen(on: boolean): Promise<void> {
    return this.#view.fullscreen(on);
  }

  get muted(): boolean {
    return this.#sound.muted;
  }

  set muted(muted: boolean) {
    this.#sound.muted = muted;
  }

  setVolume(volume: number): void {
    this.#sound.volume = volume;
  }

  text(text: string): void {
    this.#input.text(text, performance.now());
  }

  focus(): void {
    this.#view.root.focus({ preventScroll: true });
  }

  accept(): void {
    this.#step({ type: "accept" });
  }

  leave(): void {
    this.#step({ type: "leave" });
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#input.releaseAll();
    this.#isDisposed = true;
    clearTimeout(this.#wakeTimer);
    clearTimeout(this.#motionTimer);
    this.#peer?.close();
    this.#link?.close();
    this.#touchPad?.dispose();
    this.#pointer.dispose();
    this.#gamepads.dispose();
    this.#clipboard.dispose();
    this.#sound.dispose();
    this.#picture.dispose();
    this.#disposers.dispose();
    this.#view.dispose();
  }
}
