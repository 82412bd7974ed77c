//! Messages of the session link, checked: what comes over the network is not yet a type.

import type { QueuePlace, Session } from "../rest/types.js";

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

function isQueuePlace(value: unknown): value is QueuePlace {
  return (
    isRecord(value) &&
    typeof value["position"] === "number" &&
    typeof value["sentence"] === "string" &&
    (value["estimate"] === undefined || isRecord(value["estimate"]))
  );
}

/** What a text frame tells. */
export type Told =
  | { readonly type: "session"; readonly session: Session }
  | { readonly type: "queue"; readonly queue: QueuePlace };

/** What a text frame tells, or `null` for other messages, also for those of a newer server. */
export function toldBy(text: unknown): Told | null {
  if (typeof text !== "string") return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(value)) return null;
  const { type, session, queue } = value;
  if (type === "session" && isSession(session)) return { type, session };
  if (type === "queue" && isQueuePlace(queue)) return { type, queue };
  return null;
}
