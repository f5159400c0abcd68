import assert from "node:assert/strict";
import { test } from "node:test";

import { RATE } from "./conceal.ts";
import { Voice } from "./voice.ts";

const PACKET = 960;
const QUANTUM = 128;

/** A tone, packet for packet. */
class Tone {
  #at = 0;
  readonly hz: number;
  constructor(hz: number) {
    this.hz = hz;
  }
  packet(): Float32Array {
    return Float32Array.from({ length: PACKET }, () => 0.5 * Math.sin((2 * Math.PI * this.hz * this.#at++) / RATE));
  }
}

/** Plays `seconds` of a tone, by a sender whose clock runs by `drift` faster; `lost` says which packets do not come. */
function play(seconds: number, options: { drift?: number; lost?: (packet: number) => boolean; late?: (packet: number) => number } = {}) {
  const [voice, tone, heard] = [new Voice(), new Tone(440), new Float32Array(seconds * RATE)];
  const period = PACKET / (1 + (options.drift ?? 0));
  let packet = 0;
  const waiting: { at: number; samples: Float32Array | undefined }[] = [];
  for (let at = 0; at + QUANTUM <= heard.length; at += QUANTUM) {
    for (; packet * period <= at; packet++) {
      const samples = tone.packet();
      const is_lost = options.lost?.(packet) ?? false;
      waiting.push({ at: packet * period + (options.late?.(packet) ?? 0), samples: is_lost ? undefined : samples });
    }
    while (waiting[0] !== undefined && waiting[0].at <= at) {
      const samples = waiting.shift()?.samples;
      if (samples === undefined) {
        voice.miss(1);
      } else {
        voice.push(samples);
      }
    }
    voice.add_to(heard.subarray(at, at + QUANTUM));
  }
  return { heard, figures: voice.figures() };
}

/** The largest jump between neighbours: of the tone itself it is 0.029. */
function jump_max(heard: Float32Array): number {
  let most = 0;
  for (let at = 1; at < heard.length; at++) {
    most = Math.max(most, Math.abs((heard[at] ?? 0) - (heard[at - 1] ?? 0)));
  }
  return most;
}

function rms(samples: Float32Array): number {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
}

test("what comes evenly is heard as it is, and nothing is made up", () => {
  const { heard, figures } = play(4);
  assert.equal(figures.concealed, 0);
  assert.ok(jump_max(heard) < 0.031, String(jump_max(heard)));
  assert.ok(Math.abs(rms(heard.subarray(RATE)) - 0.5 / Math.SQRT2) < 0.002);
});

test("clocks that drift apart are followed without a click, and the stock stays", () => {
  for (const drift of [0.001, -0.001]) {
    const { heard, figures } = play(60, { drift });
    assert.equal(figures.concealed, 0, String(drift));
    assert.ok(jump_max(heard) < 0.032, String(jump_max(heard)));
    assert.ok(figures.stock > 400 && figures.stock < 0.08 * RATE, String(figures.stock));
  }
});

test("a lost packet is bridged with the same tone, and no click stands at its ends", () => {
  const { heard, figures } = play(10, { lost: (packet) => packet % 50 === 49 });
  assert.ok(figures.concealed >= 9 * PACKET && figures.concealed <= 11 * PACKET, String(figures.concealed));
  assert.ok(jump_max(heard) < 0.06, String(jump_max(heard)));
  for (let at = RATE; at + PACKET <= heard.length; at += PACKET) {
    assert.ok(rms(heard.subarray(at, at + PACKET)) > 0.2, `quiet at ${at}`);
  }
});

test("a stall fades out, is counted, and goes over into what comes after it", () => {
  const stall = (packet: number) => (packet >= 100 && packet < 125 ? (125 - packet) * PACKET : 0);
  const { heard, figures } = play(6, { late: stall });
  assert.ok(jump_max(heard) < 0.06, String(jump_max(heard)));
  assert.ok(figures.silence_max > 0.3 * RATE && figures.silence_max < 0.6 * RATE, String(figures.silence_max));
  assert.ok(rms(heard.subarray(4 * RATE, 5 * RATE)) > 0.34, "the sound is back");
  assert.ok(figures.stock < 0.2 * RATE, "and not late for ever");
});

test("packets that come unevenly make the stock larger and are then heard whole", () => {
  const uneven = (packet: number) => (packet % 4 === 0 ? 30 * 48 : 0);
  const { figures } = play(20, { late: uneven });
  assert.ok(figures.concealed < 0.1 * RATE, String(figures.concealed));
});

test("what came late at first is made up for within seconds, and nobody hears where", () => {
  // The first half second comes at once, as after a stall at the start.
  const { heard, figures } = play(6, { late: (packet) => Math.max(0, 25 - packet) * PACKET * 0.3 });
  assert.ok(jump_max(heard) < 0.06, String(jump_max(heard)));
  assert.ok(figures.stock < 0.06 * RATE, String(figures.stock));
});

test("a stock that is needed no more goes within seconds", () => {
  const { figures } = play(30, { late: (packet) => (packet < 500 && packet % 4 === 0 ? 100 * 48 : 0) });
  assert.ok(figures.stock < 0.06 * RATE, String(figures.stock));
});
