//! What lies over the picture: waiting, reconnecting, the end, hints, statistics.

import type { LatencySummary } from "../core/ledger.js";
import type { PlayerState } from "../core/machine.js";
import { endTitle } from "../core/reasons.js";
import type { PlayerStatistics } from "../core/statistics.js";
import type { QueuePlace } from "../rest/types.js";

export interface Screens {
  show(state: PlayerState, hasPicture: boolean): void;
  hint(text: string | null): void;
  statistics(statistics: PlayerStatistics | null): void;
}

function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  className: string,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  if (className !== "") element.className = className;
  element.append(...children);
  return element;
}

export function createScreens(root: HTMLElement, showsEnd: boolean, onAccept: () => void): Screens {
  const screen = make("div", "kite-screen");
  screen.role = "status";
  const hint = make("div", "kite-hint");
  const figures = make("dl", "kite-statistics");
  screen.hidden = true;
  hint.hidden = true;
  figures.hidden = true;
  root.append(screen, hint, figures);

  return {
    show(state, hasPicture) {
      screen.classList.toggle("kite-over-picture", hasPicture);
      const content = screenContent(state, hasPicture, showsEnd, onAccept);
      screen.hidden = content === null;
      screen.replaceChildren(...(content ?? []));
    },
    hint(text) {
      hint.hidden = text === null;
      hint.textContent = text;
    },
    statistics(statistics) {
      figures.hidden = statistics === null;
      if (statistics === null) return;
      const rows = statisticsRows(statistics);
      figures.replaceChildren(...rows.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]));
    },
  };
}

function queuedContent(sentence: string, queue: QueuePlace | null): Node[] {
  if (queue === null) return [make("div", "kite-spinner"), make("p", "", sentence)];
  const place = make("p", "kite-queue-place", String(queue.position));
  // The sentence says it, too.
  place.ariaHidden = "true";
  return [place, make("p", "", queue.sentence)];
}

function screenContent(
  state: PlayerState,
  hasPicture: boolean,
  showsEnd: boolean,
  onAccept: () => void,
): Node[] | null {
  switch (state.name) {
    case "connecting":
      return [make("div", "kite-spinner"), make("p", "", state.sentence ?? "Connecting …")];
    case "queued":
      return queuedContent(state.sentence, state.queue);
    case "offered": {
      const take = make("button", "kite-accept", "Play now");
      take.type = "button";
      take.addEventListener("click", onAccept);
      return [make("h2", "", "It is your turn"), make("p", "", state.sentence), take];
    }
    case "reconnecting": {
      const sentence = state.sentence ?? "The connection was lost. Reconnecting …";
      return [make("div", "kite-spinner"), make("p", "", sentence)];
    }
    case "playing":
      return hasPicture ? null : [make("div", "kite-spinner"), make("p", "", "Waiting for the first picture …")];
    case "ended":
      return showsEnd ? [make("h2", "", endTitle(state.reason)), make("p", "", state.sentence)] : null;
  }
}

function statisticsRows(statistics: PlayerStatistics): [string, string][] {
  const ms = (value: number | null | undefined): string => (value == null ? "–" : `${value.toFixed(1)} ms`);
  const { latency, stream } = statistics;
  const rows: [string, string][] = [
    ["picture", `${statistics.width}×${statistics.height} ${statistics.codec ?? ""}`],
    ["frames", `${statistics.framesPerSecond.toFixed(0)} /s`],
    ["bitrate", `${(statistics.bitrateKbps / 1000).toFixed(1)} Mbit/s`],
    ["round trip", ms(statistics.roundTripMs)],
    ["loss", `${(statistics.loss * 100).toFixed(1)} %`],
    ["decode", ms(statistics.decodeMs)],
    ["dropped · longest gap", `${statistics.dropped} · ${statistics.longestGapMs.toFixed(0)} ms`],
    [`frame age${approximate(latency)}`, ms(latency.frameAgeMs?.median)],
    [`input to photon${approximate(latency)}`, ms(latency.inputToPhotonMs?.median)],
  ];
  if (latency.legs !== null) {
    const { inputMs, applicationMs, captureMs, encodeMs, deliveryMs } = latency.legs;
    rows.push(
      ["· input", ms(inputMs.median)],
      ["· application", ms(applicationMs.median)],
      ["· capture", ms(captureMs.median)],
      ["· encode", ms(encodeMs.median)],
      ["· network, decode, draw", ms(deliveryMs.median)],
    );
  }
  if (stream !== null) rows.push(["allowed by network", `${(stream.targetKbps / 1000).toFixed(1)} Mbit/s`]);
  rows.push(["shown by", statistics.picture ?? "–"]);
  return rows;
}

/** Without RTP timestamps frames and marks are matched by order, which is a guess. */
function approximate(latency: LatencySummary): string {
  return latency.matching === "newest" ? " (about)" : "";
}
