//! Times in words: when something was, and how long it took.

const MINUTE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const SECOND = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Date and time of the player's own place. To the second where two in a minute have to be told apart. */
export function whenText(at: string, isExact = false): string {
  return (isExact ? SECOND : MINUTE).format(new Date(at));
}

/** Minutes below an hour, then hours and minutes: nobody wants the seconds of a play. */
export function durationText(ms: number): string {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 1) return "under a minute";
  if (minutes < 60) return `${minutes} min`;
  const rest = minutes % 60;
  return rest === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${rest} min`;
}
