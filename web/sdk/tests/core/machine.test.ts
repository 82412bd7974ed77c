import { describe, expect, test } from "vitest";
import { type Action, backoffMs, type MachineEvent, SessionMachine } from "../../src/core/machine.js";
import type { SessionState } from "../../src/rest/types.js";

const session = (state: SessionState, revision: number, sentence = "A sentence."): MachineEvent => ({
  type: "linkSession",
  session: {
    id: "ses_1",
    app: "doom",
    spec: { width: 1280, height: 720, frames_per_second: 60 },
    state,
    sentence,
    first_frame: false,
    revision,
    created_at: "",
    ends_at: "",
  },
});

/** A machine in simulated time: wakes when it is due, records what it does. */
class World {
  readonly machine = new SessionMachine();
  now = 0;
  done: [number, Action][] = [];

  send(event: MachineEvent): void {
    for (const action of this.machine.step(event, this.now)) this.done.push([this.now, action]);
  }

  /** Runs until `untilMs`; `onAction` is the world's answer. */
  run(untilMs: number, onAction: (action: Action) => void = () => {}): void {
    let seen = this.done.length;
    for (;;) {
      while (seen < this.done.length) onAction((this.done[seen++] as [number, Action])[1]);
      const due = this.machine.wakeAtMs;
      if (due === null || due > untilMs) break;
      this.now = Math.max(this.now, due);
      this.send({ type: "wake" });
    }
    this.now = untilMs;
  }

  take(): Action[] {
    const actions = this.done.map(([, action]) => action);
    this.done = [];
    return actions;
  }
}

function playing(): World {
  const world = new World();
  world.send({ type: "start" });
  world.send({ type: "linkOpened" });
  world.send({ type: "peerAnswered" });
  world.send({ type: "peerConnected" });
  world.take();
  return world;
}

describe("waiting for a place", () => {
  const queued: SessionState = { state: "queued", cause: "capacity" };
  const queue = { cause: "capacity", position: 4, sentence: "You are number 4.", sites: [] } as const;

  test("nothing is offered until there is one, however long that takes", () => {
    const world = new World();
    world.send({ type: "start" });
    world.send({ type: "linkOpened" });
    world.send(session(queued, 1, "You wait."));
    expect(world.take()).toEqual(["openLink", "startPeer", "stopPeer"]);
    expect(world.machine.state).toEqual({ name: "queued", sentence: "You wait.", queue: null });
    world.send({ type: "linkQueue", queue });
    expect(world.machine.state).toEqual({ name: "queued", sentence: "You wait.", queue });
    world.run(3_600_000);
    world.send({ type: "accept" });
    expect(world.take(), "there is nothing to take yet").toEqual([]);
    world.send(session({ state: "offered", until: "2026-01-01T00:00:30Z" }, 2, "Your turn."));
    expect(world.machine.state).toEqual({ name: "offered", sentence: "Your turn.", until: "2026-01-01T00:00:30Z" });
    world.send({ type: "accept" });
    expect(world.take()).toEqual(["sayAccept"]);
    world.send(session({ state: "reserved" }, 3, "Yours."));
    expect(world.take()).toEqual(["startPeer"]);
    expect(world.machine.state).toEqual({ name: "connecting", sentence: "Yours." });
    world.run(3_600_000 + 59_000);
    expect(world.take(), "a first start may take its time").toEqual([]);
  });

  test("a link that breaks in the queue is opened again and keeps what was known", () => {
    const world = new World();
    world.send({ type: "start" });
    world.send(session(queued, 1, "You wait."));
    world.send({ type: "linkQueue", queue });
    world.take();
    world.send({ type: "linkLost" });
    world.run(1000);
    expect(world.take()).toEqual(["checkSession", "openLink"]);
    expect(world.machine.state).toMatchObject({ name: "queued", queue });
  });

  test("a lost node stops the offers; the game that is started anew has time again", () => {
    const world = playing();
    world.send({ type: "peerLost" });
    world.take();
    world.send(session({ state: "recovering", since: "" }, 8, "On another machine."));
    expect(world.take()).toEqual(["stopPeer"]);
    expect(world.machine.state).toEqual({ name: "reconnecting", attempt: 1, sentence: "On another machine." });
    world.run(600_000);
    expect(world.take()).toEqual([]);
    world.send(session({ state: "reserved" }, 9, "Reserved."));
    expect(world.take()).toEqual(["startPeer"]);
    world.run(650_000);
    expect(world.take()).toEqual([]);
    world.send({ type: "peerAnswered" });
    world.send({ type: "peerConnected" });
    expect(world.machine.state).toEqual({ name: "playing" });
    world.send({ type: "peerLost" });
    expect(world.machine.state).toEqual({ name: "reconnecting", attempt: 1, sentence: null });
  });
});

describe("starting again", () => {
  test("a game that is started again has time again, in whatever order its end and its place are heard of", () => {
    const goodbye: MachineEvent = { type: "streamEnded", reason: "restarted" };
    const stopping = session({ state: "stopping", reason: "restarted" }, 8, "The game is started again.");
    for (const heard of [[goodbye, stopping], [stopping, goodbye], [stopping], [goodbye]]) {
      const world = playing();
      for (const event of heard) world.send(event);
      expect(world.take()).toEqual(["stopPeer"]);
      world.run(100_000);
      expect(world.take(), "nothing is offered to what is being stopped").toEqual([]);
      expect(world.machine.state.name).toBe("reconnecting");
      world.send(session({ state: "reserved" }, 9, "Reserved."));
      expect(world.take()).toEqual(["startPeer"]);
      world.send({ type: "peerAnswered" });
      world.send({ type: "peerConnected" });
      expect(world.machine.state).toEqual({ name: "playing" });
    }
  });

  test("a stop for any other reason is an end", () => {
    const world = playing();
    world.send(session({ state: "stopping", reason: "ended_by_operator" }, 8));
    world.send({ type: "streamEnded", reason: "ended_by_operator" });
    world.run(10_000);
    expect(world.machine.state).toMatchObject({ name: "ended", reason: "ended_by_operator" });
  });
});

describe("beginning", () => {
  test("link and offer go out at once; the server's sentence is shown", () => {
    const world = new World();
    world.send({ type: "start" });
    expect(world.take()).toEqual(["openLink", "startPeer"]);
    world.send({ type: "linkOpened" });
    world.send(session({ state: "preparing", stage: "game" }, 2, "The game is starting."));
    world.send(session({ state: "reserved" }, 1, "Old news."));
    expect(world.machine.state).toEqual({ name: "connecting", sentence: "The game is starting." });
    world.send({ type: "peerAnswered" });
    world.send({ type: "peerConnected" });
    expect(world.machine.state).toEqual({ name: "playing" });
    expect(world.machine.wakeAtMs).toBeNull();
  });

  test("an offer that waits for a slow game is not given up; one that was answered and leads nowhere is", () => {
    const world = new World();
    world.send({ type: "start" });
    world.run(30_000);
    expect(world.take()).toEqual(["openLink", "startPeer"]);
    world.send({ type: "peerAnswered" });
    world.run(38_001);
    expect(world.take()).toEqual(["stopPeer"]);
    world.run(39_000);
    expect(world.take()).toEqual(["startPeer"]);
    expect(world.machine.state.name).toBe("connecting");
  });

  test("a refusal for good ends it with the server's words", () => {
    const world = new World();
    world.send({ type: "start" });
    const refusal = { isTemporary: false, kind: "token_unknown", sentence: "No.", retryAfterMs: null };
    world.send({ type: "offerRefused", ...refusal });
    expect(world.machine.state).toMatchObject({ name: "ended", reason: "token_unknown", sentence: "No." });
    expect(world.take()).toEqual(["openLink", "startPeer", "stopPeer", "closeLink"]);
  });

  test("a temporary refusal is tried again, no sooner than the server wants", () => {
    const world = new World();
    world.send({ type: "start" });
    world.take();
    world.send({ type: "offerRefused", isTemporary: true, kind: "no_node", sentence: "", retryAfterMs: 3_000 });
    world.run(2_999);
    expect(world.take()).toEqual(["stopPeer"]);
    world.run(3_000);
    expect(world.take()).toEqual(["startPeer"]);
  });
});

describe("losing the peer", () => {
  test("is answered with a new offer at once", () => {
    const world = playing();
    world.send({ type: "peerLost" });
    expect(world.machine.state).toEqual({ name: "reconnecting", attempt: 1, sentence: null });
    world.run(0);
    expect(world.take()).toEqual(["stopPeer", "startPeer"]);
    world.send({ type: "peerAnswered" });
    world.send({ type: "peerConnected" });
    expect(world.machine.state.name).toBe("playing");
  });

  test("for two minutes ends the play, after a bounded number of offers", () => {
    const world = playing();
    let offers = 0;
    world.send({ type: "peerLost" });
    world.run(200_000, (action) => {
      if (action !== "startPeer") return;
      offers += 1;
      world.now += 100;
      world.send({ type: "peerLost" });
    });
    expect(world.machine.state).toMatchObject({ name: "ended", reason: "connection_lost" });
    expect(offers).toBeGreaterThan(20);
    expect(offers).toBeLessThan(45);
  });
});

describe("losing the link", () => {
  test("interrupts no stream, and is repaired", () => {
    const world = playing();
    world.send({ type: "linkLost" });
    world.run(0);
    expect(world.take()).toEqual(["checkSession", "openLink"]);
    expect(world.machine.state.name).toBe("playing");
    world.send({ type: "linkLost" });
    world.run(249);
    expect(world.take()).toEqual(["checkSession"]);
    world.run(250);
    expect(world.take()).toEqual(["openLink"]);
  });

  test("because the session is gone ends the play", () => {
    const world = playing();
    world.send({ type: "linkLost" });
    world.send({ type: "sessionGone", kind: "session_unknown", sentence: "There is no such session." });
    expect(world.machine.state).toMatchObject({ name: "ended", reason: "session_unknown" });
    expect(world.take()).toEqual(["checkSession", "stopPeer", "closeLink"]);
  });
});

describe("the end", () => {
  const ended: SessionState = { state: "ended", reason: "game_exited", party: "game", at: "" };

  test("comes with the link's sentence, also when the stream said it first", () => {
    const world = playing();
    world.send({ type: "streamEnded", reason: "game_exited" });
    expect(world.machine.state.name).toBe("reconnecting");
    world.send({ type: "peerLost" });
    world.send(session(ended, 9, "The game was closed."));
    expect(world.machine.state).toEqual({
      name: "ended",
      reason: "game_exited",
      party: "game",
      sentence: "The game was closed.",
    });
    expect(world.take()).toEqual(["stopPeer", "stopPeer", "closeLink"]);
  });

  test("does not wait for a link that says nothing", () => {
    const world = playing();
    world.send({ type: "streamEnded", reason: "game_crashed" });
    world.run(3_000);
    expect(world.machine.state).toMatchObject({ name: "ended", reason: "game_crashed" });
  });

  test("is the last state, whatever comes", () => {
    const world = playing();
    world.send({ type: "leave" });
    expect(world.take()).toEqual(["sayLeave", "stopPeer", "closeLink"]);
    world.send({ type: "peerConnected" });
    world.send({ type: "linkLost" });
    world.send(session(ended, 9));
    expect(world.take()).toEqual([]);
    expect(world.machine.state).toMatchObject({ name: "ended", reason: "player_left" });
    expect(world.machine.wakeAtMs).toBeNull();
  });
});

test("backoff begins at once and is bounded", () => {
  expect([1, 2, 3, 4, 5, 6, 7, 100].map(backoffMs)).toEqual([0, 250, 500, 1000, 2000, 4000, 4000, 4000]);
});

test("random events never wedge it: either it ended or it plays or something is due or under way", () => {
  const events: MachineEvent[] = [
    { type: "linkOpened" },
    { type: "linkLost" },
    { type: "peerAnswered" },
    { type: "peerConnected" },
    { type: "peerLost" },
    { type: "offerRefused", isTemporary: true, kind: "x", sentence: "", retryAfterMs: null },
    { type: "wake" },
    session({ state: "ready", connect_until: "" }, 1),
  ];
  let seed = 7;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  for (let round = 0; round < 300; round += 1) {
    const world = new World();
    world.send({ type: "start" });
    for (let step = 0; step < 60; step += 1) {
      world.send(events[random(events.length)] as MachineEvent);
      world.now += random(900);
      const { state, wakeAtMs } = world.machine;
      expect(state.name === "ended" || state.name === "playing" || wakeAtMs !== null).toBe(true);
    }
  }
});
