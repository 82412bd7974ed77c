//! Bringing a save from elsewhere: an archive that was downloaded here or in another browser.

import type { Api, App } from "@kite-cloud/sdk";
import { useState } from "preact/hooks";
import { bring, type Changed } from "./deeds.ts";
import type { Do } from "./load.ts";

interface BringProps {
  readonly api: Api;
  readonly app: string;
  readonly run: Do;
  readonly onChanged: Changed;
}

export function BringButton({ api, app, run, onChanged }: BringProps) {
  const chosen = (input: HTMLInputElement): void => {
    const file = input.files?.[0];
    if (file !== undefined) run(`“${file.name}” is being brought …`, () => bring(api, app, file, onChanged));
    // So that the same file can be chosen again.
    input.value = "";
  };
  return (
    <label class="button">
      Bring a save
      <input
        type="file"
        class="hidden"
        accept=".tar,application/x-tar"
        onChange={(event) => chosen(event.currentTarget)}
      />
    </label>
  );
}

interface BringOtherProps extends Omit<BringProps, "app"> {
  /** Games that the player has no save of. */
  readonly apps: readonly App[];
}

/** For games that are not listed yet. */
export function BringOther({ api, apps, run, onChanged }: BringOtherProps) {
  const [chosen, setChosen] = useState(apps[0]?.name ?? "");
  return (
    <section class="bring">
      <h2>Bring a save from elsewhere</h2>
      <div>
        <label>
          <span class="hidden">Game</span>
          <select value={chosen} onChange={(event) => setChosen(event.currentTarget.value)}>
            {apps.map(({ name, title }) => (
              <option key={name} value={name}>
                {title}
              </option>
            ))}
          </select>
        </label>
        <BringButton api={api} app={chosen} run={run} onChanged={onChanged} />
      </div>
    </section>
  );
}
