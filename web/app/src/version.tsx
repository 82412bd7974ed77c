//! One version of a save, wherever the player chooses between some.

import type { Play, SaveVersion } from "@kite-cloud/sdk";
import { type ComponentChildren, Fragment } from "preact";
import { When } from "./parts.tsx";
import { versionFacts } from "./save.ts";

interface VersionProps {
  readonly version: SaveVersion;
  readonly play: Play | undefined;
  /** Said beside the time. */
  readonly mark?: string | undefined;
  /** What can be done with it. */
  readonly children: ComponentChildren;
}

export function Version({ version, play, mark, children }: VersionProps) {
  return (
    <li class="version" data-version={version.id}>
      <div>
        <strong>
          <When at={version.created_at} isExact />
        </strong>
        {mark === undefined ? null : <span class="mark">{mark}</span>}
        <p class="quiet">
          {versionFacts(version, play).map((fact, index) => (
            <Fragment key={fact}>
              {index === 0 ? null : " · "}
              <span class="whole">{fact}</span>
            </Fragment>
          ))}
        </p>
      </div>
      <div class="buttons">{children}</div>
    </li>
  );
}
