/** Numbers of X displays. */

import { existsSync } from "node:fs";

/** A number that no X server of this machine uses. */
export function freeDisplay(): number {
  for (let number = 90; number < 400; number++) {
    if (!existsSync(`/tmp/.X${number}-lock`) && !existsSync(`/tmp/.X11-unix/X${number}`)) return number;
  }
  throw new Error("no free X display between 90 and 400");
}
