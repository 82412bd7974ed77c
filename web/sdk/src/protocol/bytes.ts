//! Reading and writing little-endian bytes: the counterpart of crates/wire's codec.rs. Total and bounded like it.

/** Bytes that are no message, or a message of a newer peer (`unknownType`), which is skipped without complaint. */
export class DecodeError extends Error {
  override readonly name = "DecodeError";
  readonly unknownType: boolean;

  constructor(message: string, unknownType = false) {
    super(message);
    this.unknownType = unknownType;
  }
}

export function unknownChoice(name: string, choice: number): never {
  const isMessage = name.endsWith("Message");
  throw new DecodeError(isMessage ? `unknown message type ${choice}` : `${name} has no choice ${choice}`, isMessage);
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export class Reader {
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.#view.byteLength - at) throw new DecodeError(`ends early, at byte ${at}`);
    this.#at = at + count;
    return at;
  }

  #limited(value: number, max: number): number {
    if (value > max) throw new DecodeError(`${value} at byte ${this.#at} is more than ${max}`);
    return value;
  }

  bool(): boolean {
    return this.u8(1) === 1;
  }

  u8(max = 0xff): number {
    return this.#limited(this.#view.getUint8(this.#take(1)), max);
  }

  u16(max = 0xffff): number {
    return this.#limited(this.#view.getUint16(this.#take(2), true), max);
  }

  u32(max = 0xffff_ffff): number {
    return this.#limited(this.#view.getUint32(this.#take(4), true), max);
  }

  i16(): number {
    return this.#view.getInt16(this.#take(2), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  /** A copy, because the datagram's buffer is not ours to keep. */
  bytes(max = 0xffff_ffff): Uint8Array {
    const length = this.u32(max);
    const at = this.#take(length);
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, length).slice();
  }

  text(max = 0xffff_ffff): string {
    const length = this.u32(max);
    const at = this.#take(length);
    try {
      return decoder.decode(new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, length));
    } catch {
      throw new DecodeError(`text at byte ${at} is not UTF-8`);
    }
  }
}

/** Writes one message after another into the same buffer: `reset`, write, send `written` before the next `reset`. */
export class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  reset(): void {
    this.#length = 0;
  }

  /** Valid until the next write. */
  get written(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(count: number): number {
    const at = this.#length;
    this.#length = at + count;
    if (this.#length > this.#bytes.length) {
      const bytes = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      bytes.set(this.#bytes);
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer);
    }
    return at;
  }

  bool(value: boolean): void {
    this.u8(value ? 1 : 0);
  }

  u8(value: number): void {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  i16(value: number): void {
    const at = this.#grow(2);
    this.#view.setInt16(at, value, true);
  }

  i32(value: number): void {
    const at = this.#grow(4);
    this.#view.setInt32(at, value, true);
  }

  bytes(value: Uint8Array): void {
    this.u32(value.length);
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
  }

  /** Cut at `max` bytes, at a character's end. */
  text(value: string, max: number): void {
    // A character of UTF-16 takes at most three bytes, so what is beyond cannot fit: bounded work for endless pastes.
    let bytes = encoder.encode(value.slice(0, max));
    if (bytes.length > max) {
      let end = max;
      while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
      bytes = bytes.subarray(0, end);
    }
    this.bytes(bytes);
  }
}
