//! The versions of a player's save of one game, and what can be done with them.

import type { Api, Play, SaveVersion } from "@kite-cloud/sdk";
import { useState } from "preact/hooks";
import { BringButton } from "./bring.tsx";
import { type Changed, download, erase, goBack } from "./deeds.ts";
import type { Do } from "./load.ts";
import { follow } from "./route.ts";
import { whenText } from "./time.ts";
import { Version } from "./version.tsx";

interface HistoryProps {
  readonly api: Api;
  readonly app: string;
  /** `null` where the game is not offered any more. */
  readonly title: string | null;
  /** Newest first. */
  readonly versions: readonly SaveVersion[];
  readonly plays: ReadonlyMap<string, Play>;
  readonly run: Do;
  readonly onChanged: Changed;
}

/** A game that saves once a minute makes hundreds in a day: the newest are shown, and more when asked for. */
const PAGE = 10;

export function GameHistory({ api, app, title, versions, plays, run, onChanged }: HistoryProps) {
  const [shown, setShown] = useState(PAGE);
  const newest = versions.filter((version) => version.is_newest).length;
  const eraseAll = (): void => {
    const question = `Delete all saves of ${title ?? app}? Nobody can bring them back, and a play that runs is not saved.`;
    if (window.confirm(question)) run("The saves are being deleted …", () => erase(api, app, onChanged));
  };
  return (
    <section class="history" data-app={app}>
      <h2>
        {title === null ? (
          app
        ) : (
          <a href={`/play/${app}`} onClick={follow}>
            {title}
          </a>
        )}
      </h2>
      {newest > 1 ? (
        <p>It went on in several ways. The next play asks with which one; or go back to one here.</p>
      ) : null}
      <ul>
        {versions
          .filter((version, index) => index < shown || version.is_newest)
          .map((version) => (
            <Version
              key={version.id}
              version={version}
              play={plays.get(version.session ?? "")}
              mark={version.is_newest ? "Newest" : undefined}
            >
              <VersionButtons {...{ api, version, run, onChanged }} isNext={version.is_newest && newest === 1} />
            </Version>
          ))}
      </ul>
      <div class="actions">
        {versions.length > shown ? (
          <button type="button" class="button" onClick={() => setShown(shown + PAGE)}>
            Show older saves
          </button>
        ) : null}
        <BringButton api={api} app={app} run={run} onChanged={onChanged} />
        <button type="button" class="button danger" onClick={eraseAll}>
          Delete all saves of this game
        </button>
      </div>
    </section>
  );
}

interface ButtonsProps extends Pick<HistoryProps, "api" | "run" | "onChanged"> {
  readonly version: SaveVersion;
  /** The next play begins with it in any case. */
  readonly isNext: boolean;
}

function VersionButtons({ api, version, isNext, run, onChanged }: ButtonsProps) {
  const when = whenText(version.created_at, true);
  const back = (): void => {
    const question = `Go back to the save of ${when}? The next play begins with it. All others stay here.`;
    if (window.confirm(question)) run("The save is being taken back …", () => goBack(api, version, onChanged));
  };
  return (
    <>
      <button
        type="button"
        class="button"
        onClick={() => run("The save is being fetched …", () => download(api, version))}
      >
        Download<span class="hidden"> the save of {when}</span>
      </button>
      {isNext ? null : (
        <button type="button" class="button" onClick={back}>
          Go back to this<span class="hidden">, the save of {when}</span>
        </button>
      )}
    </>
  );
}
