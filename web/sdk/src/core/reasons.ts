//! Titles of end screens. The sentence under a title comes from the server.

const TITLES: Readonly<Record<string, string>> = {
  player_left: "See you soon",
  connect_timeout: "No connection",
  reconnect_timeout: "Connection lost",
  connection_lost: "Connection lost",
  unreachable: "Server not reachable",
  idle: "Still there?",
  time_limit: "Time is up",
  ended_by_operator: "Session ended",
  service_stopped: "Service is stopping",
  game_exited: "Game closed",
  game_crashed: "The game crashed",
  out_of_memory: "The game ran out of memory",
  game_start_failed: "The game did not start",
  start_timeout: "The game did not start",
  version_mismatch: "Page out of date",
  token_expired: "Session expired",
  session_unknown: "Session not found",
  disk_full: "No space left",
};

/** A few words for any reason, also for those of newer servers. */
export function endTitle(reason: string): string {
  return Object.hasOwn(TITLES, reason) ? (TITLES[reason] ?? "The session is over") : "The session is over";
}
