//! Messages of the session link, checked: what comes over the network is not yet a type.

import type { LinkMessage, Session } from "../rest/types.js";

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

/** The message in a text frame, or `null` for one that a newer server sends. */
export function parseLinkMessage(text: unknown): LinkMessage | null {
  if (typeof text !== "string") return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(value)) return null;
  if (value["type"] === "session" && isSession(value["session"])) return { type: "session", session: value["session"] };
  if (value["type"] === "statistics") return { type: "statistics", statistics: value["statistics"] };
  return null;
}
