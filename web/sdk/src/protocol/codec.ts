//! Whole messages to and from datagrams.

import { DecodeError, Reader, Writer } from "./bytes.js";
import {
  type ClientMessage,
  MAX_MESSAGE_BYTES,
  readClientMessage,
  readServerMessage,
  type ServerMessage,
  writeClientMessage,
  writeServerMessage,
} from "./wire.generated.js";

const writer = new Writer();

function bounded(bytes: Uint8Array): Reader {
  if (bytes.length === 0) throw new DecodeError("the message is empty");
  if (bytes.length > MAX_MESSAGE_BYTES) throw new DecodeError(`the message has ${bytes.length} bytes`);
  return new Reader(bytes);
}

/** The datagram. Valid until the next message is encoded: send it at once. */
export function encodeClientMessage(message: ClientMessage): Uint8Array<ArrayBuffer> {
  writer.reset();
  writeClientMessage(writer, message);
  return writer.written;
}

/** The datagram. Valid until the next message is encoded: send it at once. */
export function encodeServerMessage(message: ServerMessage): Uint8Array<ArrayBuffer> {
  writer.reset();
  writeServerMessage(writer, message);
  return writer.written;
}

/** @throws DecodeError */
export function decodeClientMessage(bytes: Uint8Array): ClientMessage {
  return readClientMessage(bounded(bytes));
}

/** @throws DecodeError */
export function decodeServerMessage(bytes: Uint8Array): ServerMessage {
  return readServerMessage(bounded(bytes));
}
