//! Which resolutions and frame rates are offered for an app.

import type { App, SpecRange, StreamSpec } from "@kite-cloud/sdk";

const HEIGHTS: readonly number[] = [480, 720, 1080, 1440, 2160];
const RATES: readonly number[] = [30, 60, 90, 120];

export interface Choice<Value> {
  readonly value: Value;
  readonly label: string;
}

/** The usual resolutions inside of the range, and the app's default where it is none of them. */
export function resolutions({ min, max, default: usual }: SpecRange): Choice<{ width: number; height: number }>[] {
  const sizes = HEIGHTS.map((height) => ({ width: Math.round((height * 16) / 9 / 2) * 2, height })).filter(
    ({ width, height }) => width >= min.width && width <= max.width && height >= min.height && height <= max.height,
  );
  if (!sizes.some((size) => size.width === usual.width && size.height === usual.height)) {
    sizes.push({ width: usual.width, height: usual.height });
  }
  sizes.sort((a, b) => a.width * a.height - b.width * b.height);
  return sizes.map((value) => ({
    value,
    label: isWide(value) ? `${value.height}p` : `${value.width} × ${value.height}`,
  }));
}

function isWide({ width, height }: { readonly width: number; readonly height: number }): boolean {
  return Math.abs(width / height - 16 / 9) < 0.01;
}

export function rates({ min, max, default: usual }: SpecRange): Choice<number>[] {
  const inside = RATES.filter((rate) => rate >= min.frames_per_second && rate <= max.frames_per_second);
  const all = new Set<number>([...inside, usual.frames_per_second]);
  return [...all].sort((a, b) => a - b).map((value) => ({ value, label: `${value} frames/s` }));
}

const KEY = "kite.spec.";

/** What the player chose for this app before, if the app still allows it. */
export function remembered(app: App): StreamSpec {
  try {
    const spec = JSON.parse(localStorage.getItem(KEY + app.name) ?? "null") as StreamSpec | null;
    const size = resolutions(app.spec).find(({ value }) => value.width === spec?.width && value.height === spec.height);
    const rate = rates(app.spec).find(({ value }) => value === spec?.frames_per_second);
    if (size !== undefined && rate !== undefined) return { ...size.value, frames_per_second: rate.value };
  } catch {
    // Storage is forbidden or holds something else: the default is as good.
  }
  return app.spec.default;
}

export function remember(app: App, spec: StreamSpec): void {
  try {
    localStorage.setItem(KEY + app.name, JSON.stringify(spec));
  } catch {
    // Storage is forbidden or full: nothing depends on it.
  }
}
