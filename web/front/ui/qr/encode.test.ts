import assert from "node:assert/strict";
import { test } from "node:test";

import { default as jsqr } from "jsqr";

import { encode, type Qr } from "./encode.ts";
import { correction } from "./reed_solomon.ts";

/** What another program reads in a code. */
function read(code: Qr): string | undefined {
  const scale = 4;
  const margin = 4;
  const side = (code.size + margin * 2) * scale;
  const pixels = new Uint8ClampedArray(side * side * 4).fill(255);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      if (!code.is_dark(Math.floor(x / scale) - margin, Math.floor(y / scale) - margin)) continue;
      pixels.fill(0, (y * side + x) * 4, (y * side + x) * 4 + 3);
    }
  }
  return jsqr(pixels, side, side)?.data;
}

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const sample = (length: number): string => Array.from({ length }, (_, at) => ALPHABET[(at * 31 + length) % 64]).join("");

test("another program reads every version as it was written", () => {
  // The most that each version holds at level M, in bytes (ISO/IEC 18004, table 7).
  const most = [14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251, 287, 331, 362, 412, 450, 504, 560, 624, 666, 711, 779, 857, 911, 997, 1059, 1125, 1190, 1264, 1370, 1452, 1538, 1628, 1722, 1809, 1911, 1989, 2099, 2213, 2331];
  most.forEach((length, at) => {
    const text = sample(length);
    const code = encode(text);
    assert.equal(code?.size, at * 4 + 21, `${length} bytes`);
    assert.equal(read(code), text, `version ${at + 1}`);
  });
});

test("links, sixty digits and other alphabets can be read", () => {
  for (const text of ["30417 55920 18836 94012 77345 20981 66403 11728 58390 42167 90534 28871", "https://relay.example.org/call#supernode://relay.example.org:4433/?pin=vnvgvjX7", "Grüße, 日本, 👋"]) {
    const code = encode(text);
    assert.ok(code !== undefined);
    assert.equal(read(code), text);
  }
});

test("a text that no code holds has none", () => {
  assert.equal(encode(sample(2332)), undefined);
});

test("correction is that of the standard's example", () => {
  // "01234567", version 1-M: ISO/IEC 18004, annex I.
  const data = Uint8Array.from([0x10, 0x20, 0x0c, 0x56, 0x61, 0x80, 0xec, 0x11, 0xec, 0x11, 0xec, 0x11, 0xec, 0x11, 0xec, 0x11]);
  assert.deepEqual([...correction(data, 10)], [0xa5, 0x24, 0xd4, 0xc1, 0xed, 0x36, 0xc7, 0x87, 0x2c, 0x55]);
});
