//! The play: the whole window, a small bar that hides itself, and the end.

import {
  type Api,
  type ApiError,
  type App,
  createPlayer,
  endTitle,
  type Player,
  type PlayerState,
  type StreamSpec,
} from "@kite-cloud/sdk";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ChooseSave } from "./choice.tsx";
import { InUse } from "./in-use.tsx";
import { asApiError } from "./load.ts";
import { Message } from "./message.tsx";
import { Icon } from "./parts.tsx";
import { navigate } from "./route.ts";
import { forgetSession } from "./session.ts";
import { type Progress, plainStart, type Start, startInstead } from "./start.ts";

interface PlayPageProps {
  readonly api: Api;
  readonly app: App;
  readonly spec: StreamSpec;
  /** False when the picture keeps the spec's size whatever the window's is. */
  readonly resizable: boolean;
}

type Ended = { readonly name: "ended"; readonly end: Extract<PlayerState, { name: "ended" }> };
type Refused = { readonly name: "refused"; readonly error: ApiError };
type Step = Ended | Refused | { readonly name: "play"; readonly start: Start; readonly before?: Step };

declare global {
  interface Window {
    /** The running player, for whoever measures or automates the page. */
    kitePlayer?: Player;
  }
}

export function PlayPage(props: PlayPageProps) {
  const { api, app, spec, resizable } = props;
  const request = { app: app.name, spec, resizable };
  const [step, setStep] = useState<Step>(() => ({ name: "play", start: plainStart(api, request) }));
  const play = (save?: string): void =>
    setStep({ name: "play", start: plainStart(api, save === undefined ? request : { ...request, save }) });
  switch (step.name) {
    case "play": {
      const { start, before } = step;
      const cancel = (): void => (before === undefined ? navigate("/") : setStep(before));
      return <Play {...props} start={start} onOutcome={setStep} onCancel={cancel} />;
    }
    case "ended":
      return (
        <div data-state="ended" data-reason={step.end.reason} ref={focusHeading}>
          <Message title={endTitle(step.end.reason)} text={step.end.sentence} home>
            <button type="button" class="button primary" onClick={() => play()}>
              Play again
            </button>
          </Message>
        </div>
      );
    case "refused": {
      const instead = (session: string): void =>
        setStep({ name: "play", start: startInstead(api, request, session), before: step });
      return (
        <div data-state="refused" data-reason={step.error.kind} ref={focusHeading}>
          <RefusedPage {...props} error={step.error} onPlay={play} onInstead={instead} />
        </div>
      );
    }
  }
}

/** Who cannot see that the page became another hears it, and goes on from there by keyboard. */
function focusHeading(page: HTMLElement | null): void {
  const heading = page?.querySelector("h1");
  if (heading == null) return;
  heading.tabIndex = -1;
  heading.focus();
}

interface RefusedProps extends PlayPageProps {
  readonly error: ApiError;
  /** With that version of the save, or with the newest. */
  readonly onPlay: (save?: string) => void;
  /** In place of that session. */
  readonly onInstead: (session: string) => void;
}

function RefusedPage({ api, app, error, onPlay, onInstead }: RefusedProps) {
  switch (error.kind) {
    case "save_conflict":
      return <ChooseSave api={api} app={app} onPlay={onPlay} />;
    case "save_in_use":
      return <InUse api={api} app={app} onPlay={onPlay} onInstead={onInstead} />;
    default:
      return (
        <Message title={`${app.title} cannot be started`} text={error.message} remedy={error.remedy} home>
          <button type="button" class="button primary" onClick={() => onPlay()}>
            Try again
          </button>
        </Message>
      );
  }
}

interface PlayProps extends PlayPageProps {
  readonly start: Start;
  readonly onOutcome: (outcome: Ended | Refused) => void;
  readonly onCancel: () => void;
}

function Play({ app, spec, resizable, start, onOutcome, onCancel }: PlayProps) {
  const stage = useRef<HTMLDivElement>(null);
  const [player, setPlayer] = useState<Player | null>(null);
  const [state, setState] = useState<PlayerState["name"]>("connecting");
  const [progress, setProgress] = useState<Progress | null>(null);

  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const play = async (): Promise<void> => {
      const session = await start(setProgress, signal);
      if (signal.aborted || stage.current === null) return;
      const created = createPlayer(stage.current, {
        session,
        input: app.input,
        spec,
        resizable,
        showsEnd: false,
        signal,
      });
      created.on("state", (next) => setState(next.name));
      created.on("end", (end) => {
        forgetSession(app.name);
        onOutcome({ name: "ended", end });
      });
      window.kitePlayer = created;
      setPlayer(created);
    };
    play().catch((error: unknown) => {
      if (!signal.aborted) onOutcome({ name: "refused", error: asApiError(error) });
    });
    return () => {
      abort.abort();
      delete window.kitePlayer;
    };
  }, [start, app, spec, resizable, onOutcome]);

  useEffect(() => {
    if (state !== "queued" && state !== "offered") return;
    // Seen in the tab of somebody who reads something else meanwhile.
    const before = document.title;
    document.title = state === "offered" ? `Your turn: ${app.title}` : `Waiting: ${app.title}`;
    return () => {
      document.title = before;
    };
  }, [state, app.title]);

  useEffect(() => {
    // Going back in the history leaves the game; reloading does not.
    const leave = (): void => player?.leave();
    window.addEventListener("popstate", leave);
    return () => window.removeEventListener("popstate", leave);
  }, [player]);

  return (
    <div class="play" data-state={state}>
      <h1 class="hidden">{app.title}</h1>
      <div class="stage" ref={stage}>
        {player === null ? <Starting title={app.title} progress={progress} onCancel={onCancel} /> : null}
        {player === null ? null : <Bar player={player} isPlaying={state === "playing"} stage={stage.current} />}
      </div>
    </div>
  );
}

interface StartingProps {
  readonly title: string;
  /** What is waited for, when the start takes its time. */
  readonly progress: Progress | null;
  readonly onCancel: () => void;
}

function Starting({ title, progress, onCancel }: StartingProps) {
  return (
    <div class="starting">
      <p role="status">{progress?.text ?? `Starting ${title} …`}</p>
      {progress === null ? null : (
        <>
          <p aria-hidden="true">{Math.floor(progress.waitedMs / 1000)} s</p>
          <button type="button" class="button" onClick={onCancel}>
            Cancel
          </button>
        </>
      )}
    </div>
  );
}

/** How long the bar stays after the last movement near it. */
const BAR_MS = 2_500;
/** Movement in this strip at the top brings it back; on touch screens a tap there does. */
const STRIP_PX = 72;

function Bar({ player, isPlaying, stage }: { player: Player; isPlaying: boolean; stage: HTMLElement | null }) {
  const [isMuted, setMuted] = useState(player.muted);
  const [isBlocked, setBlocked] = useState(false);
  const [isFull, setFull] = useState(document.fullscreenElement !== null);
  const [hasStatistics, setStatistics] = useState(false);
  const isShown = useShownNearTop(stage, isPlaying);

  useEffect(() => player.on("soundBlocked", setBlocked), [player]);
  useEffect(() => {
    const changed = (): void => setFull(document.fullscreenElement !== null);
    document.addEventListener("fullscreenchange", changed);
    return () => document.removeEventListener("fullscreenchange", changed);
  }, []);

  const leave = useCallback(() => {
    player.leave();
    navigate("/");
  }, [player]);
  const toggleFull = (): void => {
    player.fullscreen(!isFull).catch(() => {});
    player.focus();
  };
  const toggleSound = (): void => {
    player.muted = !isMuted;
    setMuted(!isMuted);
    player.focus();
  };
  const toggleStatistics = (): void => {
    player.showStatistics(!hasStatistics);
    setStatistics(!hasStatistics);
    player.focus();
  };
  return (
    <div class={isShown ? "bar" : "bar away"} role="toolbar" aria-label="Game">
      <button type="button" onClick={leave} aria-label="Leave the game" title="Leave">
        <Icon name="leave" />
        <span>Leave</span>
      </button>
      <button
        type="button"
        onClick={toggleSound}
        aria-pressed={!isMuted}
        aria-label="Sound"
        title={isBlocked ? "Click for sound" : isMuted ? "Sound on" : "Sound off"}
      >
        <Icon name={isMuted || isBlocked ? "silent" : "sound"} />
      </button>
      <button
        type="button"
        onClick={toggleStatistics}
        aria-pressed={hasStatistics}
        aria-label="Statistics"
        title="Statistics"
      >
        <Icon name="statistics" />
      </button>
      <button type="button" onClick={toggleFull} aria-pressed={isFull} aria-label="Full screen" title="Full screen">
        <Icon name={isFull ? "window" : "fullscreen"} />
      </button>
    </div>
  );
}

/** Shown while waiting, and for a moment after the pointer or a finger was near the top. */
function useShownNearTop(stage: HTMLElement | null, hides: boolean): boolean {
  const [isNear, setNear] = useState(true);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const near = (event: PointerEvent | FocusEvent): void => {
      const isAtTop = event instanceof FocusEvent || event.clientY < STRIP_PX;
      if (!isAtTop || document.pointerLockElement !== null) return;
      setNear(true);
      clearTimeout(timer);
      timer = setTimeout(() => setNear(false), BAR_MS);
    };
    const bar = stage?.querySelector<HTMLElement>(".bar");
    timer = setTimeout(() => setNear(false), BAR_MS);
    stage?.addEventListener("pointermove", near);
    stage?.addEventListener("pointerdown", near);
    bar?.addEventListener("focusin", near);
    return () => {
      clearTimeout(timer);
      stage?.removeEventListener("pointermove", near);
      stage?.removeEventListener("pointerdown", near);
      bar?.removeEventListener("focusin", near);
    };
  }, [stage]);
  return isNear || !hides;
}
