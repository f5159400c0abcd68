import assert from "node:assert/strict";
import { test } from "node:test";

import { TimeLine } from "./time_line.ts";

const PACKET_US = 20_000;
const BEGIN_US = 5_000_000;

/** The places of packets that were captured evenly, `late_us` each under way to the worker. */
function places(count: number, late_us: (packet: number) => number, line = new TimeLine()): number[] {
  return Array.from({ length: count }, (_, packet) => line.place(BEGIN_US + packet * PACKET_US + late_us(packet)));
}

function steps(places: readonly number[]): number[] {
  return places.slice(1).map((place, at) => place - (places[at] ?? 0));
}

test("packets that come in bursts stand evenly", () => {
  // Each fifteenth to twentieth wait for the last of them.
  const burst = (packet: number) => (packet % 20 < 14 ? 0 : (19 - (packet % 20)) * PACKET_US);
  assert.deepEqual(new Set(steps(places(500, burst))), new Set([PACKET_US]));
});

test("a line that begins with a late packet does not go back", () => {
  const found = places(200, (packet) => (packet === 0 ? 200_000 : 0));
  assert.equal(found[0], BEGIN_US + 200_000);
  assert.deepEqual(new Set(steps(found)), new Set([PACKET_US]));
});

test("missing packets are a gap once it is clear that they are", () => {
  const found = places(200, (packet) => (packet < 100 ? 0 : 300_000));
  assert.deepEqual(steps(found).filter((step) => step !== PACKET_US), [PACKET_US + 300_000]);
  assert.equal(found[199], BEGIN_US + 199 * PACKET_US + 300_000);
});

test("after sleep, and after a while without packets, the clock counts at once", () => {
  const found = places(3, (packet) => (packet < 2 ? 0 : 10_000_000));
  assert.equal(found[2], BEGIN_US + 2 * PACKET_US + 10_000_000);
  const line = new TimeLine();
  line.place(BEGIN_US);
  line.restart(BEGIN_US + 500_000);
  assert.equal(line.place(BEGIN_US + 510_000), BEGIN_US + 500_000);
  line.restart(BEGIN_US);
  assert.equal(line.place(BEGIN_US + 515_000), BEGIN_US + 520_000, "never back");
});
