//! What the player of this browser played, newest first, and the way to have it forgotten.

import { type Api, erasePlayer, type Play } from "@kite-cloud/sdk";
import { useCallback, useState } from "preact/hooks";
import { asApiError, useLoaded } from "./load.ts";
import { Message } from "./message.tsx";
import { ofPlayer } from "./mine.ts";
import { Header, When } from "./parts.tsx";
import { follow } from "./route.ts";
import { durationText } from "./time.ts";

const PAGE = 50;

/** A page of plays; none where nobody is known. */
async function ask(api: Api, before: string | undefined, signal?: AbortSignal): Promise<readonly Play[]> {
  const page = await ofPlayer(api, (token) => api.plays(token, { before, limit: PAGE }, signal));
  return page?.plays ?? [];
}

export function PlaysPage({ api }: { readonly api: Api }) {
  const [state, again] = useLoaded(useCallback((signal) => ask(api, undefined, signal), [api]));
  return (
    <>
      <Header />
      {state.name === "loading" ? (
        <main class="plays" aria-busy="true">
          <h1>Your plays</h1>
        </main>
      ) : null}
      {state.name === "failed" ? (
        <Message title="Your plays cannot be listed" text={state.error.message} remedy={state.error.remedy}>
          <button type="button" class="button primary" onClick={again}>
            Try again
          </button>
        </Message>
      ) : null}
      {state.name === "loaded" ? <Plays api={api} first={state.value} onErased={again} /> : null}
    </>
  );
}

interface PlaysProps {
  readonly api: Api;
  readonly first: readonly Play[];
  readonly onErased: () => void;
}

function Plays({ api, first, onErased }: PlaysProps) {
  const [older, setOlder] = useState<readonly Play[]>([]);
  const [hasMore, setHasMore] = useState(first.length === PAGE);
  const [complaint, setComplaint] = useState<string | null>(null);
  const plays = [...first, ...older];
  const failed = (error: unknown): void => {
    const { message, remedy } = asApiError(error);
    setComplaint(`${message} ${remedy}`);
  };
  const more = (): void => {
    setComplaint(null);
    ask(api, plays.at(-1)?.session).then((next) => {
      setOlder([...older, ...next]);
      setHasMore(next.length === PAGE);
    }, failed);
  };
  const erase = (): void => {
    if (!window.confirm("Forget all your plays here, and delete your saves? Nobody can bring them back.")) return;
    setComplaint(null);
    erasePlayer({ server: api }).then(onErased, failed);
  };
  if (plays.length === 0) {
    return <Message title="No plays yet" text="What you play in this browser is listed here." home />;
  }
  return (
    <main class="plays">
      <h1>Your plays</h1>
      <ul>
        {plays.map((play) => (
          <Row key={play.session} play={play} />
        ))}
      </ul>
      <p role="status" class="complaint">
        {complaint}
      </p>
      <div class="actions">
        {hasMore ? (
          <button type="button" class="button" onClick={more}>
            Show older plays
          </button>
        ) : null}
        <button type="button" class="button" onClick={erase}>
          Forget my plays
        </button>
      </div>
    </main>
  );
}

function Row({ play }: { readonly play: Play }) {
  const started = new Date(play.started_at);
  const end = play.ended_at == null ? null : new Date(play.ended_at);
  return (
    <li data-session={play.session}>
      <h2>
        {play.title == null ? (
          play.app
        ) : (
          <a href={`/play/${play.app}`} onClick={follow}>
            {play.title}
          </a>
        )}
      </h2>
      <p class="quiet">
        <When at={play.started_at} />
        {" · "}
        {end === null ? "running now" : durationText(end.getTime() - started.getTime())}
      </p>
      <p>{play.sentence}</p>
    </li>
  );
}
