import assert from "node:assert/strict";
import { test } from "node:test";

import { SMALL_NAME, Width, size_to_see } from "./sizes.ts";

const BOTH = [{ name: "camera" }, { name: SMALL_NAME }];

test("a small tile and a narrow path get the small picture, where there is one", () => {
  assert.equal(size_to_see(BOTH, 180, false)?.name, SMALL_NAME);
  assert.equal(size_to_see(BOTH, 250, false)?.name, SMALL_NAME);
  assert.equal(size_to_see(BOTH, 251, false)?.name, "camera");
  assert.equal(size_to_see(BOTH, 1080, true)?.name, SMALL_NAME);
  const [camera, small] = BOTH.map((track) => [track]);
  assert.equal(size_to_see(camera ?? [], 100, true)?.name, "camera");
  assert.equal(size_to_see(small ?? [], 1080, false)?.name, SMALL_NAME);
  assert.equal(size_to_see(BOTH.slice(2), 1080, false), undefined);
});

test("a path is wide again once nothing was left out for a while", () => {
  const width = new Width();
  assert.equal(width.is_narrow(0), false);
  width.handle_rung("NO_TEMPORAL_2", 0);
  assert.equal(width.is_narrow(0), false, "half of all frames is enough of a large picture");
  width.handle_rung("NO_TEMPORAL_1", 1000);
  width.handle_rung("FULL", 3000);
  assert.equal(width.is_narrow(10_999), true);
  width.handle_rung("NO_TEMPORAL_2", 10_999);
  width.handle_rung("FULL", 12_000);
  assert.equal(width.is_narrow(19_999), true, "it was not wide all the time");
  assert.equal(width.is_narrow(20_000), false);
});

test("what was soon too much again is tried later", () => {
  const width = new Width();
  let now = 0;
  const waits: number[] = [];
  for (let tries = 0; tries < 6; tries++) {
    width.handle_rung("AUDIO_ONLY", now);
    width.handle_rung("FULL", now);
    const began = now;
    while (width.is_narrow(now)) {
      now += 500;
    }
    waits.push(now - began);
  }
  assert.deepEqual(waits, [8000, 16_000, 32_000, 64_000, 64_000, 64_000]);
  now += 64_000;
  width.handle_rung("NO_SPATIAL", now);
  width.handle_rung("FULL", now);
  assert.equal(width.is_narrow(now + 8000), false, "what has held for long counts as wide");
});
