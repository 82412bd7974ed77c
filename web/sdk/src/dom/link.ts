//! The link to the coordinator: a WebSocket whose liveness is the player's presence.

import { LINK_PROTOCOL, LINK_TOKEN_PROTOCOL_PREFIX, type Told, toldBy } from "../core/link.js";
import type { LinkRequest } from "../rest/types.js";

export interface LinkHandlers {
  onOpened(): void;
  onTold(told: Told): void;
  /** Closed or never opened. Called once at most, and not after `close`. */
  onLost(): void;
}

export class Link {
  readonly #socket: WebSocket;

  constructor(url: URL, token: string, handlers: LinkHandlers) {
    this.#socket = new WebSocket(url, [LINK_PROTOCOL, LINK_TOKEN_PROTOCOL_PREFIX + token]);
    this.#socket.onopen = () => handlers.onOpened();
    this.#socket.onmessage = (event: MessageEvent<unknown>) => {
      const told = toldBy(event.data);
      if (told !== null) handlers.onTold(told);
    };
    this.#socket.onclose = () => handlers.onLost();
  }

  send(request: LinkRequest): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(request));
  }

  close(): void {
    this.#socket.onopen = null;
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    this.#socket.close();
  }
}
