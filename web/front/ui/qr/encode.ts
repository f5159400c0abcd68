/**
 * A text as a QR code (ISO/IEC 18004): bytes, correction level M, the smallest version that holds it.
 *
 * Ours, because it is two hundred lines that never change, and a page with a room's secret in it should not run a package
 * for so little. A test has another program read what this one writes.
 */
import { correction } from "./reed_solomon.ts";

export interface Qr {
  /** Modules along a side, without the margin. */
  readonly size: number;
  readonly is_dark: (x: number, y: number) => boolean;
}

/** Level M (about 15 % may be unreadable), by version from 1: correction bytes in each block, and blocks. */
const CORRECTION_BYTES = [
  10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 28, 28, 28, 28, 28,
];
const BLOCKS = [
  1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31, 33, 35, 37, 38, 40,
  43, 45, 47, 49,
];
const VERSION_MAX = 40;
/** Level M in the format's two bits. */
const LEVEL_BITS = 0b00;

/** The code of a text, or nothing if it is longer than any code holds (2,331 bytes). */
export function encode(text: string): Qr | undefined {
  const bytes = new TextEncoder().encode(text);
  for (let version = 1; version <= VERSION_MAX; version++) {
    if (header_bits(version) + bytes.length * 8 <= data_bytes(version) * 8) {
      return draw(version, with_correction(version, data_of(version, bytes)));
    }
  }
  return undefined;
}

function header_bits(version: number): number {
  return 4 + (version < 10 ? 8 : 16);
}

/** Modules for data and correction: all but the patterns, the format and the version (7.3, table 1). */
function data_modules(version: number): number {
  const side = version * 4 + 17;
  const finders = 3 * 64 + 31;
  const timing = 2 * (side - 16);
  const along = alignment_positions(version).length;
  // Those that lie on the timing patterns share five modules with them.
  const alignments = version === 1 ? 0 : (along * along - 3) * 25 - (along - 2) * 2 * 5;
  return side * side - finders - timing - alignments - (version >= 7 ? 36 : 0);
}

function data_bytes(version: number): number {
  return Math.floor(data_modules(version) / 8) - (CORRECTION_BYTES[version - 1] ?? 0) * (BLOCKS[version - 1] ?? 0);
}

/** Mode, length, bytes, and padding to the end. */
function data_of(version: number, bytes: Uint8Array): Uint8Array {
  const data = new Uint8Array(data_bytes(version));
  let at = 0;
  const put = (value: number, bits: number): void => {
    for (let bit = bits - 1; bit >= 0; bit--, at++) data[at >> 3] = (data[at >> 3] ?? 0) | (((value >> bit) & 1) << (7 - (at & 7)));
  };
  put(0b0100, 4);
  put(bytes.length, header_bits(version) - 4);
  for (const byte of bytes) put(byte, 8);
  // Four zeros end it, or as many as there is room for, and the byte is filled up with more of them.
  for (let next = Math.min(data.length, (at + 4 + 7) >> 3), odd = false; next < data.length; next++, odd = !odd) data[next] = odd ? 0x11 : 0xec;
  return data;
}

/** Blocks with their correction, interleaved (7.6). */
function with_correction(version: number, data: Uint8Array): Uint8Array {
  const count = BLOCKS[version - 1] ?? 1;
  const extra = CORRECTION_BYTES[version - 1] ?? 0;
  const short = Math.floor(data.length / count);
  const shorter = count - (data.length % count);
  const blocks: Uint8Array[] = [];
  for (let block = 0, at = 0; block < count; block++) {
    const length = short + (block >= shorter ? 1 : 0);
    blocks.push(data.subarray(at, at + length));
    at += length;
  }
  const corrections = blocks.map((block) => correction(block, extra));
  const all: number[] = [];
  for (let at = 0; at <= short; at++) for (const block of blocks) if (at < block.length) all.push(block[at] ?? 0);
  for (let at = 0; at < extra; at++) for (const block of corrections) all.push(block[at] ?? 0);
  return Uint8Array.from(all);
}

function alignment_positions(version: number): number[] {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const last = version * 4 + 10;
  // Even steps, the first one takes what is left; version 32 is an exception of the standard.
  const step = version === 32 ? 26 : Math.ceil((version * 4 + 4) / (count * 2 - 2)) * 2;
  return [6, ...Array.from({ length: count - 1 }, (_, index) => last - (count - 2 - index) * step)];
}

const MASKS: readonly ((x: number, y: number) => boolean)[] = [
  (x, y) => (x + y) % 2 === 0,
  (_, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

/** The modules, with the mask by which they are read most easily. */
function draw(version: number, bytes: Uint8Array): Qr {
  const modules = new Modules(version);
  modules.put_patterns();
  modules.put_data(bytes);
  let best = { mask: 0, penalty: Infinity };
  for (let mask = 0; mask < MASKS.length; mask++) {
    modules.apply(mask);
    const penalty = modules.penalty();
    if (penalty < best.penalty) best = { mask, penalty };
    modules.apply(mask);
  }
  modules.apply(best.mask);
  return { size: modules.size, is_dark: (x, y) => modules.dark(x, y) };
}

class Modules {
  readonly size: number;
  readonly #version: number;
  readonly #dark: Uint8Array;
  /** Those that are no data. */
  readonly #fixed: Uint8Array;

  constructor(version: number) {
    this.#version = version;
    this.size = version * 4 + 17;
    this.#dark = new Uint8Array(this.size * this.size);
    this.#fixed = new Uint8Array(this.size * this.size);
  }

  dark(x: number, y: number): boolean {
    return x >= 0 && y >= 0 && x < this.size && y < this.size && this.#dark[y * this.size + x] === 1;
  }

  #fix(x: number, y: number, dark: boolean): void {
    if (x < 0 || y < 0 || x >= this.size || y >= this.size) return;
    this.#dark[y * this.size + x] = dark ? 1 : 0;
    this.#fixed[y * this.size + x] = 1;
  }

  put_patterns(): void {
    const end = this.size - 7;
    for (let at = 0; at < this.size; at++) {
      this.#fix(at, 6, at % 2 === 0);
      this.#fix(6, at, at % 2 === 0);
    }
    for (const [left, top] of [[0, 0], [end, 0], [0, end]] as const) this.#rings(left + 3, top + 3, 4, [0, 1, 3]);
    const positions = alignment_positions(this.#version);
    const last = positions.length - 1;
    positions.forEach((y, row) => {
      positions.forEach((x, column) => {
        const at_finder = (row === 0 && (column === 0 || column === last)) || (row === last && column === 0);
        if (!at_finder) this.#rings(x, y, 2, [0, 2]);
      });
    });
    this.#put_format(0);
    if (this.#version >= 7) this.#put_version();
  }

  /** Squares around a module, dark at these distances. */
  #rings(x: number, y: number, reach: number, dark: readonly number[]): void {
    for (let down = -reach; down <= reach; down++) {
      for (let right = -reach; right <= reach; right++) {
        this.#fix(x + right, y + down, dark.includes(Math.max(Math.abs(right), Math.abs(down))));
      }
    }
  }

  #put_format(mask: number): void {
    const data = (LEVEL_BITS << 3) | mask;
    const bits = ((data << 10) | remainder(data, 10, 0x537)) ^ 0x5412;
    const bit = (at: number): boolean => ((bits >> at) & 1) === 1;
    const side = this.size;
    for (let at = 0; at < 6; at++) this.#fix(8, at, bit(at));
    this.#fix(8, 7, bit(6));
    this.#fix(8, 8, bit(7));
    this.#fix(7, 8, bit(8));
    for (let at = 9; at < 15; at++) this.#fix(14 - at, 8, bit(at));
    for (let at = 0; at < 8; at++) this.#fix(side - 1 - at, 8, bit(at));
    for (let at = 8; at < 15; at++) this.#fix(8, side - 15 + at, bit(at));
    this.#fix(8, side - 8, true);
  }

  #put_version(): void {
    const bits = (this.#version << 12) | remainder(this.#version, 12, 0x1f25);
    for (let at = 0; at < 18; at++) {
      const dark = ((bits >> at) & 1) === 1;
      const across = this.size - 11 + (at % 3);
      const along = Math.floor(at / 3);
      this.#fix(across, along, dark);
      this.#fix(along, across, dark);
    }
  }

  /** Two columns at a time from the right, up and down in turn (7.7.3). */
  put_data(bytes: Uint8Array): void {
    let at = 0;
    for (let right = this.size - 1; right >= 1; right -= 2) {
      if (right === 6) right = 5;
      const upwards = ((right + 1) & 2) === 0;
      for (let step = 0; step < this.size; step++) {
        const y = upwards ? this.size - 1 - step : step;
        for (const x of [right, right - 1]) {
          const index = y * this.size + x;
          if (this.#fixed[index] === 1 || at >= bytes.length * 8) continue;
          this.#dark[index] = ((bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1;
          at += 1;
        }
      }
    }
  }

  /** Turns data by this mask, or back, and writes which it is. */
  apply(mask: number): void {
    const turns = MASKS[mask];
    for (let y = 0; y < this.size; y++) {
      for (let x = 0; x < this.size; x++) {
        const index = y * this.size + x;
        if (this.#fixed[index] === 0 && turns?.(x, y) === true) this.#dark[index] = 1 - (this.#dark[index] ?? 0);
      }
    }
    this.#put_format(mask);
  }

  /** How hard it is to read (7.8.3). */
  penalty(): number {
    let points = 0;
    let dark = 0;
    for (let line = 0; line < this.size; line++) {
      points += line_penalty(this.size, (at) => this.dark(at, line)) + line_penalty(this.size, (at) => this.dark(line, at));
      for (let x = 0; x < this.size; x++) {
        const colour = this.dark(x, line);
        if (colour) dark += 1;
        const is_square = x > 0 && line > 0 && colour === this.dark(x - 1, line) && colour === this.dark(x, line - 1);
        if (is_square && colour === this.dark(x - 1, line - 1)) points += 3;
      }
    }
    const percent = (dark * 100) / (this.size * this.size);
    return points + Math.floor(Math.abs(percent - 50) / 5) * 10;
  }
}

/** What a finder pattern looks like in a line, with the light beside it. */
const LIKE_A_FINDER = [0b10111010000, 0b00001011101];

function line_penalty(size: number, dark: (at: number) => boolean): number {
  let points = 0;
  let run = 0;
  let window = 0;
  for (let at = 0; at < size; at++) {
    run = at > 0 && dark(at) === dark(at - 1) ? run + 1 : 1;
    if (run === 5) points += 3;
    else if (run > 5) points += 1;
    window = ((window << 1) | (dark(at) ? 1 : 0)) & 0x7ff;
    if (at >= 10 && LIKE_A_FINDER.includes(window)) points += 40;
  }
  return points;
}

/** The rest of a division of polynomials over two elements (BCH codes of format and version). */
function remainder(value: number, bits: number, by: number): number {
  let rest = value;
  for (let bit = 0; bit < bits; bit++) rest = (rest << 1) ^ ((rest >> (bits - 1)) * by);
  return rest & ((1 << bits) - 1);
}
