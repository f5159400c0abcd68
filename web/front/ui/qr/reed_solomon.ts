/** Error correction of QR codes: Reed-Solomon over GF(256) with x^8 + x^4 + x^3 + x^2 + 1 (ISO/IEC 18004, 7.5). */

const POWERS = new Uint8Array(255);
const LOGARITHMS = new Uint8Array(256);
for (let at = 0, value = 1; at < 255; at++) {
  POWERS[at] = value;
  LOGARITHMS[value] = at;
  value = value < 128 ? value << 1 : (value << 1) ^ 0x11d;
}

const power = (exponent: number): number => POWERS[exponent % 255] ?? 0;

function product(left: number, right: number): number {
  return left === 0 || right === 0 ? 0 : power((LOGARITHMS[left] ?? 0) + (LOGARITHMS[right] ?? 0));
}

/** The generator polynomial of this degree, its highest coefficient (1) left out. */
function generator(degree: number): Uint8Array {
  let polynomial = new Uint8Array([1]);
  for (let root = 0; root < degree; root++) {
    const next = new Uint8Array(polynomial.length + 1);
    polynomial.forEach((coefficient, at) => {
      next[at] = (next[at] ?? 0) ^ coefficient;
      next[at + 1] = (next[at + 1] ?? 0) ^ product(coefficient, power(root));
    });
    polynomial = next;
  }
  return polynomial.slice(1);
}

/** The `count` bytes that are put behind `data`. */
export function correction(data: Uint8Array, count: number): Uint8Array {
  const by = generator(count);
  const rest = new Uint8Array(count);
  for (const byte of data) {
    const factor = byte ^ (rest[0] ?? 0);
    rest.copyWithin(0, 1);
    rest[count - 1] = 0;
    by.forEach((coefficient, at) => {
      rest[at] = (rest[at] ?? 0) ^ product(coefficient, factor);
    });
  }
  return rest;
}
