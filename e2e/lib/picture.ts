/** Looks at the stream's picture in a page, small enough to compare. Works with Playwright's and Puppeteer's pages alike. */

/** What both libraries' pages can do. */
export interface Evaluating {
  evaluate(script: string): Promise<unknown>;
}

/** The picture, scaled down to a grid. */
export interface Picture {
  /** Size of the stream in pixels. */
  readonly width: number;
  readonly height: number;
  /** Red, green, blue of each point, row after row, {@link GRID_WIDTH} x {@link GRID_HEIGHT}. */
  readonly rgb: readonly number[];
}

export const GRID_WIDTH = 96;
export const GRID_HEIGHT = 54;

/** Runs in the page. A text, because the two libraries type functions differently. */
const READ = `(() => {
  const area = (element) => element.getBoundingClientRect().width * element.getBoundingClientRect().height;
  const element = [...document.querySelectorAll("video, canvas")].sort((a, b) => area(b) - area(a))[0];
  if (!element || area(element) === 0) return undefined;
  const isVideo = element instanceof HTMLVideoElement;
  const [width, height] = isVideo ? [element.videoWidth, element.videoHeight] : [element.width, element.height];
  if (width === 0 || (isVideo && element.readyState < 2)) return undefined;
  const small = document.createElement("canvas");
  [small.width, small.height] = [${GRID_WIDTH}, ${GRID_HEIGHT}];
  const context = small.getContext("2d", { willReadFrequently: true });
  context.drawImage(element, 0, 0, small.width, small.height);
  const rgba = context.getImageData(0, 0, small.width, small.height).data;
  return { width, height, rgb: [...rgba].filter((_, index) => index % 4 !== 3) };
})()`;

/** The largest picture of the page, `undefined` while there is none. */
export async function pictureOf(page: Evaluating): Promise<Picture | undefined> {
  return (await page.evaluate(READ)) as Picture | undefined;
}

/** Mean difference of two pictures a channel, 0 (the same) to 255. */
export function difference(a: Picture, b: Picture): number {
  const total = a.rgb.reduce((sum, value, index) => sum + Math.abs(value - (b.rgb[index] ?? 0)), 0);
  return total / a.rgb.length;
}

/** Mean brightness, 0 to 255. */
export function brightness(picture: Picture): number {
  return picture.rgb.reduce((sum, value) => sum + value, 0) / picture.rgb.length;
}
