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
import { asApiError } from "./load.ts";
import { Message } from "./message.tsx";
import { Icon } from "./parts.tsx";
import { navigate } from "./route.ts";
import { forgetSession, joinOrCreate } from "./session.ts";

interface PlayPageProps {
  readonly api: Api;
  readonly app: App;
  readonly spec: StreamSpec;
  /** False when the picture keeps the spec's size whatever the window's is. */
  readonly resizable: boolean;
}

type Outcome =
  | { readonly name: "refused"; readonly error: ApiError }
  | { readonly name: "ended"; readonly end: Extract<PlayerState, { name: "ended" }> };

declare global {
  interface Window {
    /** The running player, for whoever measures or automates the page. */
    kitePlayer?: Player;
  }
}

export function PlayPage(props: PlayPageProps) {
  const { app } = props;
  const [outcome, setOutcome] = useState<Outcome | null>(null);
  const again = (): void => setOutcome(null);
  if (outcome === null) return <Play {...props} onOutcome={setOutcome} />;
  const { title, text, remedy } =
    outcome.name === "refused"
      ? { title: `${app.title} cannot be started`, text: outcome.error.message, remedy: outcome.error.remedy }
      : { title: endTitle(outcome.end.reason), text: outcome.end.sentence, remedy: undefined };
  return (
    <div data-state={outcome.name} data-reason={outcome.name === "ended" ? outcome.end.reason : outcome.error.kind}>
      <Message title={title} text={text} remedy={remedy} home>
        <button type="button" class="button primary" onClick={again}>
          {outcome.name === "refused" ? "Try again" : "Play again"}
        </button>
      </Message>
    </div>
  );
}

function Play({ api, app, spec, resizable, onOutcome }: PlayPageProps & { onOutcome: (outcome: Outcome) => void }) {
  const stage = useRef<HTMLDivElement>(null);
  const [player, setPlayer] = useState<Player | null>(null);
  const [state, setState] = useState<PlayerState["name"]>("connecting");

  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    const start = async (): Promise<void> => {
      const session = await joinOrCreate(api, { app: app.name, spec, resizable }, signal);
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
    start().catch((error: unknown) => {
      if (!signal.aborted) onOutcome({ name: "refused", error: asApiError(error) });
    });
    return () => {
      abort.abort();
      delete window.kitePlayer;
    };
  }, [api, app, spec, resizable, onOutcome]);

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
        {player === null ? <p class="starting">Starting {app.title} …</p> : null}
        {player === null ? null : <Bar player={player} isPlaying={state === "playing"} stage={stage.current} />}
      </div>
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
