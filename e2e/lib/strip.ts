/**
 * Reads the probe's machine-readable strip. The layout is `crates/probe/src/strip.rs`'s.
 *
 * Pure: cells in, numbers out.
 */

/** Cells in a row; a cell is this fraction of the picture's width. */
export const COLUMNS = 40;
/** Rows of cells. */
export const ROWS = 2;

/** What one frame of the probe says. */
export interface Strip {
  /** Frames drawn so far, modulo 2^16. */
  readonly frame: number;
  /** Inputs shown so far, modulo 2^8. */
  readonly toggles: number;
  /** From the newest shown input's receipt to the first commit that showed it; saturates at 102.3. */
  readonly applicationMs: number;
  /** How late the frame's tick was; saturates at 15. */
  readonly lateMs: number;
  /** Commit of this frame by CLOCK_MONOTONIC, modulo {@link COMMITTED_MODULUS_MS}. */
  readonly committedMs: number;
  /** From the commit that first showed the newest input to this one; saturates at 127.5. */
  readonly sinceMs: number;
}

/** {@link Strip.committedMs} wraps here: 2^20 units of 100 microseconds. */
export const COMMITTED_MODULUS_MS = 2 ** 20 / 10;

function number(cells: readonly boolean[], from: number, bits: number): number {
  let value = 0;
  for (let index = from; index < from + bits; index++) value = value * 2 + (cells[index] === true ? 1 : 0);
  return value;
}

function crc8(bits: readonly boolean[]): number {
  let crc = 0;
  for (const bit of bits) {
    const feedback = crc >> 7 !== (bit ? 1 : 0);
    crc = ((crc << 1) & 0xff) ^ (feedback ? 0x07 : 0);
  }
  return crc;
}

/** Decodes cells (true = white), row after row; `undefined` when they are torn, blurred or not a strip at all. */
export function decodeStrip(cells: readonly boolean[]): Strip | undefined {
  if (cells.length !== COLUMNS * ROWS) return undefined;
  const second = COLUMNS;
  const frames = [cells[0], cells[1], cells[second], cells[second + 1]];
  if (frames[0] !== true || frames[1] !== false || frames[2] !== false || frames[3] !== true) return undefined;
  const data = [...cells.slice(2, COLUMNS), ...cells.slice(second + 2, second + 30)];
  if (crc8(data) !== number(cells, second + 30, 8)) return undefined;
  return {
    frame: number(cells, 2, 16),
    toggles: number(cells, 18, 8),
    applicationMs: number(cells, 26, 10) / 10,
    lateMs: number(cells, 36, 4),
    committedMs: number(cells, second + 2, 20) / 10,
    sinceMs: number(cells, second + 22, 8) / 2,
  };
}
