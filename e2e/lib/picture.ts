/** Looks at the stream's picture in a page, small enough to compare. Works with Playwright's and Puppeteer's pages alike. */

/** What both libraries' pages can do. */
export interface Evaluating {
  evaluate<Result, Argument>(page: (argument: Argument) => Result | Promise<Result>, argument: Argument): Promise<Result>;
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

/** The largest picture of the page, `undefined` while there is none. */
export async function pictureOf(page: Evaluating): Promise<Picture | undefined> {
  return page.evaluate(
    ({ columns, rows }) => {
      const elements = [...document.querySelectorAll<HTMLVideoElement | HTMLCanvasElement>("video, canvas")];
      const area = (element: Element): number => element.getBoundingClientRect().width * element.getBoundingClientRect().height;
      const element = elements.sort((a, b) => area(b) - area(a))[0];
      if (!element || area(element) === 0) return undefined;
      const isVideo = element instanceof HTMLVideoElement;
      const [width, height] = isVideo ? [element.videoWidth, element.videoHeight] : [element.width, element.height];
      const small = document.createElement("canvas");
      [small.width, small.height] = [columns, rows];
      const context = small.getContext("2d", { willReadFrequently: true });
      if (!context || width === 0) return undefined;
      context.drawImage(element, 0, 0, columns, rows);
      const rgba = context.getImageData(0, 0, columns, rows).data;
      return { width, height, rgb: [...rgba].filter((_, index) => index % 4 !== 3) };
    },
    { columns: GRID_WIDTH, rows: GRID_HEIGHT },
  );
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
