/** Draws the distributions of click-to-photon as an SVG: one cumulative curve a run. */

/** A named set of measurements in milliseconds. */
export interface Series {
  readonly name: string;
  readonly valuesMs: readonly number[];
}

const WIDTH = 900;
const HEIGHT = 460;
const LEFT = 60;
const BOTTOM = 50;
const TOP = 40;
const RIGHT = 230;
/** Colours that also differ in brightness, for those who do not see them all. */
const COLOURS = ["#0b5fa5", "#d1495b", "#2e933c", "#edae49", "#66418c", "#6b6b6b", "#00798c", "#9c4a1a"];

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

/** The picture as SVG text. */
export function plot(title: string, series: readonly Series[]): string {
  const limitMs = Math.max(20, ...series.map((one) => quantile(one.valuesMs, 0.99))) * 1.05;
  const x = (ms: number): number => LEFT + (Math.min(ms, limitMs) / limitMs) * (WIDTH - LEFT - RIGHT);
  const y = (share: number): number => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="13">`,
    `<rect width="100%" height="100%" fill="white"/>`,
    `<text x="${LEFT}" y="24" font-size="16">${escaped(title)}</text>`,
  ];
  const step = limitMs > 200 ? 50 : limitMs > 80 ? 20 : 10;
  for (let ms = 0; ms <= limitMs; ms += step) {
    parts.push(`<line x1="${x(ms)}" x2="${x(ms)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}" stroke="#ddd"/>`);
    parts.push(`<text x="${x(ms)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${ms}</text>`);
  }
  for (const share of [0, 0.25, 0.5, 0.75, 0.95, 1]) {
    parts.push(`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(share)}" y2="${y(share)}" stroke="#ddd"/>`);
    parts.push(`<text x="${LEFT - 8}" y="${y(share) + 4}" text-anchor="end">${share * 100} %</text>`);
  }
  parts.push(`<text x="${LEFT}" y="${HEIGHT - 10}">milliseconds from key press to the frame that shows it</text>`);
  for (const [index, one] of series.entries()) {
    const colour = COLOURS[index % COLOURS.length] ?? "black";
    const sorted = one.valuesMs.toSorted((a, b) => a - b);
    const points = sorted.map((ms, rank) => `${x(ms).toFixed(1)},${y((rank + 1) / sorted.length).toFixed(1)}`);
    const label = `${one.name}: ${quantile(sorted, 0.5).toFixed(1)} / ${quantile(sorted, 0.95).toFixed(1)} ms`;
    parts.push(`<polyline points="${points.join(" ")}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    parts.push(`<text x="${WIDTH - RIGHT + 10}" y="${TOP + 16 + index * 20}" fill="${colour}">${escaped(label)}</text>`);
  }
  parts.push("</svg>");
  return parts.join("\n");
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
}
