/** What is compared: something that keeps builds of a package and brings them to a site. */

import type { Costs } from "./steps.ts";

/** One build of a package on disk. */
export interface Build {
  readonly directory: string;
  /** Bytes of its regular files. */
  readonly bytes: number;
}

/** What one step cost. What a product does not tell is null. */
export interface Step extends Costs {
  /** Over the network, or into the store where there is no network. */
  readonly sent_bytes: number | null;
  /** By how much the store grew. */
  readonly stored_bytes: number | null;
  /** Whatever else the product says. */
  readonly more?: Readonly<Record<string, number | string>>;
}

/** A product that was started with an empty store and an empty site. */
export interface Running {
  /** Puts a build into the store; the second one after the first. */
  push(build: Build): Promise<Step>;
  /** Brings the build that was pushed last from the store to the site, over what the site has. */
  sync(): Promise<Step>;
  /** The same without a network or a store, where the product can. */
  copy?(build: Build): Promise<Step>;
  stop(): Promise<void>;
}

/** A product. */
export interface Product {
  readonly name: string;
  /** Starts it with everything that it keeps below a new directory. */
  start(directory: string): Promise<Running>;
}
