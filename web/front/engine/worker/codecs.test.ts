import assert from "node:assert/strict";
import { test } from "node:test";

import { codec_for } from "./codecs.ts";

const BOTH = { shows_av1: true, makes_av1_well: true };
const SHOWS = { av1: true };

test("AV1 goes out where all who are there have said that they can show it, and VP8 to everybody else", () => {
  assert.equal(codec_for(BOTH, [SHOWS, SHOWS]), "av1");
  assert.equal(codec_for(BOTH, [SHOWS, { av1: false }]), "vp8");
  assert.equal(codec_for(BOTH, [SHOWS, undefined]), "vp8", "somebody has said nothing yet, or is a program");
  assert.equal(codec_for(BOTH, []), "vp8", "who comes first may be a program");
  assert.equal(codec_for({ shows_av1: true, makes_av1_well: false }, [SHOWS]), "vp8");
});
