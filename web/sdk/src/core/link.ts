//! Messages of the session link, checked: what comes over the network is not yet a type.

import type { Session } from "../rest/types.js";

/** WebSocket subprotocol of the link. */
export const LINK_PROTOCOL = "kite.link.v1";
/** A second subprotocol carries the token, because a browser cannot set headers on a WebSocket. */
export const LINK_TOKEN_PROTOCOL_PREFIX = "kite.token.";

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isSession(value: unknown): value is Session {
  return (
    isRecord(value) &&
    typeof value["id"] === "string" &&
    typeof value["sentence"] === "string" &&
    typeof value["revision"] === "number" &&
    isRecord(value["state"]) &&
    typeof value["state"]["state"] === "string"
  );
}

/** The session that a text frame tells of, or `null` for other messages, also for those of a newer server. */
export function sessionOfMessage(text: unknown): Session | null {
  if (typeof text !== "string") return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return isRecord(value) && value["type"] === "session" && isSession(value["session"]) ? value["session"] : null;
}
