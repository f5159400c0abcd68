import assert from "node:assert/strict";
import { test } from "node:test";

import { parse_sha256, sha256 } from "./own_page.ts";

const ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

test("the SHA-256 is the one that everybody computes", async () => {
  assert.equal(await sha256(new TextEncoder().encode("abc").buffer), ABC);
});

test("what programs print of a SHA-256 is read, and what is none is not", () => {
  const groups = ABC.toUpperCase().match(/.{4}/g)?.join(" ") ?? "";
  for (const text of [ABC, ` ${ABC}\n`, `${ABC}  supernode.html`, `sha256:${ABC}`, `SHA-256: ${ABC}`, groups]) {
    assert.equal(parse_sha256(text), ABC, text);
  }
  for (const text of ["", "abc", ABC.slice(1), `x${ABC}`, ABC.replace("b", "g")]) assert.equal(parse_sha256(text), undefined, text);
});
