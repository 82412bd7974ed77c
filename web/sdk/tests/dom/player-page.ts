//! The page under test: the SDK as it is shipped, and a handle for the test.

import { createPlayer, type Player, type PlayerOptions, type PlayerState } from "../../src/index.js";

export interface PlayerPage {
  player: Player | null;
  states: PlayerState[];
  /** What was written over the picture at each state. */
  screens: string[];
  errors: string[];
  frames: number;
  /** How many frames had an RTP timestamp. */
  stampedFrames: number;
  events: unknown[];
  play(options: Omit<PlayerOptions, "signal">): void;
}

declare global {
  interface Window {
    page: PlayerPage;
    /** Tells the test without being asked: being asked counts as a click, which sound waits for. */
    tell?(name: string, event: unknown): void;
  }
}

window.page = {
  player: null,
  states: [],
  screens: [],
  errors: [],
  frames: 0,
  stampedFrames: 0,
  events: [],
  play(options) {
    this.player?.dispose();
    const element = document.getElementById("stage");
    if (element === null) throw new Error("the page has no stage");
    const player = createPlayer(element, options);
    this.player = player;
    this.states = [player.state];
    this.screens = [];
    this.errors = [];
    this.frames = 0;
    this.stampedFrames = 0;
    this.events = [];
    player.on("state", (state) => {
      this.states.push(state);
      this.screens.push(element.querySelector(".kite-screen")?.textContent ?? "");
    });
    player.on("error", (error) => this.errors.push(error.message));
    player.on("frame", (frame) => {
      this.frames += 1;
      if (frame.rtpTimestamp !== null) this.stampedFrames += 1;
    });
    for (const name of ["size", "pointer", "soundBlocked", "clipboard", "end"] as const) {
      player.on(name, (event) => {
        this.events.push([name, event]);
        window.tell?.(name, event);
      });
    }
  },
};

const options = new URLSearchParams(location.search).get("play");
if (options !== null) window.page.play(JSON.parse(options) as PlayerOptions);
