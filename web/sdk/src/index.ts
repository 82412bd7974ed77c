//! Kite's SDK for browsers: `createPlayer` plays a session, `Api` makes one, `ensurePlayer` knows who plays, `measureSites` where it is best played.

export type { Disposer, ListenOptions } from "./core/events.js";
export type { LatencySummary, Legs, Matching } from "./core/ledger.js";
export type { PlayerState } from "./core/machine.js";
export { endTitle } from "./core/reasons.js";
export type { Summary } from "./core/samples.js";
export type { PictureKind, PlayerStatistics } from "./core/statistics.js";
export type { ShownPicture } from "./dom/picture.js";
export { type MeasureOptions, measureSites } from "./dom/ways.js";
export { createPlayer, type Player, type PlayerEvents, type PlayerOptions } from "./player.js";
export type { PointerMode, StreamStatistics } from "./protocol/wire.generated.js";
export {
  Api,
  ApiError,
  type ApiOptions,
  newTraceparent,
  type PlaysPage,
  type SaveArchive,
  type SavesOf,
} from "./rest/client.js";
export {
  ensurePlayer,
  erasePlayer,
  type KnownPlayer,
  knownPlayer,
  type PlayerStorage,
  type PlayersOptions,
} from "./rest/players.js";
export type {
  App,
  AppList,
  CreatedPlayer,
  CreatedSession,
  CreateSession,
  InputProfile,
  Play,
  PlayerIdentity,
  PlayList,
  SaveList,
  SaveVersion,
  Session,
  SessionState,
  SiteProbe,
  SpecRange,
  StreamSpec,
  TouchControl,
} from "./rest/types.js";
