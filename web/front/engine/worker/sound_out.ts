/** Our microphone: packets of samples in, Opus out. */
import type { Outgoing, Room } from "wasm:supernode_web";

import type { Captured } from "../messages.ts";
import { TimeLine } from "../sound/time_line.ts";
import { fresh_id } from "./bytes.ts";

const RATE = 48_000;
const PACKET = 960;
const PACKET_US = 20_000;
/** Speech is clear at it, and with all that is around each packet some 75 kbit/s leave. */
const BITS_PER_SECOND = 32_000;
/** Frames that wait at the relay for longer are worth nothing. */
const TTL_MS = 1000;
/** Packets that wait for a stuck connection; more are dropped. */
const WAITING_MAX = 10;

export class SoundOut {
  #port: MessagePort | undefined;
  #encoder: AudioEncoder | undefined;
  #track: Outgoing | undefined;
  #is_on = false;
  #samples = 0;
  /** Places on the time line of packets that the encoder has: a browser may shift its time stamps. */
  readonly #places: number[] = [];
  readonly #line = new TimeLine();
  /** Of each packet from 0 to 1. */
  level = 0;
  /** Whether packets come from the microphone at all. */
  packets = 0;

  set_port(port: MessagePort): void {
    this.#port?.close();
    this.#port = port;
    port.onmessage = (event: MessageEvent<Captured>) => {
      this.#take(event.data);
    };
  }

  set_on(on: boolean): void {
    if (on && !this.#is_on) {
      this.#line.restart(performance.now() * 1000);
    }
    this.#is_on = on;
  }

  async publish(room: Room): Promise<void> {
    this.#track = await room.publish(fresh_id(), "audio", "microphone", "opus", opus_parameters(), TTL_MS, () => undefined);
  }

  /** The call is over, or another one begins. */
  async end(): Promise<void> {
    const track = this.#track;
    this.#track = undefined;
    this.#places.length = 0;
    await track?.finish();
    track?.free();
  }

  #take({ samples, until_ms }: Captured): void {
    this.packets += 1;
    this.level = this.#is_on ? level_of(samples) : 0;
    if (!this.#is_on || this.#track === undefined || this.#track.is_dead() || this.#track.waiting() >= WAITING_MAX) {
      return;
    }
    const data = new AudioData({
      format: "f32-planar",
      sampleRate: RATE,
      numberOfFrames: PACKET,
      numberOfChannels: 1,
      timestamp: (this.#samples += PACKET_US) - PACKET_US,
      data: samples,
    });
    const encoder = this.#ready_encoder();
    // How long it was under way, by the clock that its stamp is of; where it begins, by the one that pictures go by.
    const age_us = (Date.now() - until_ms) * 1000;
    this.#places.push(this.#line.place(performance.now() * 1000 - age_us - PACKET_US));
    encoder.encode(data);
    data.close();
  }

  #ready_encoder(): AudioEncoder {
    if (this.#encoder?.state === "configured") {
      return this.#encoder;
    }
    const encoder = new AudioEncoder({
      output: (chunk) => {
        const place = this.#places.shift();
        if (place !== undefined) {
          const bytes = new Uint8Array(chunk.byteLength);
          chunk.copyTo(bytes);
          this.#track?.send(bytes, place, true, 0, 0, true);
        }
      },
      // The next packet makes another one.
      error: () => {
        this.#encoder = undefined;
        this.#places.length = 0;
      },
    });
    encoder.configure({
      codec: "opus",
      sampleRate: RATE,
      numberOfChannels: 1,
      bitrate: BITS_PER_SECOND,
      opus: { frameDuration: PACKET_US },
    });
    this.#encoder = encoder;
    return encoder;
  }
}

/** How loud it is, from 0 to 1, as people hear it: -60 dB and less is nothing. */
export function level_of(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) {
    sum += sample * sample;
  }
  const decibel = 10 * Math.log10(sum / samples.length + 1e-12);
  return Math.max(0, Math.min(1, 1 + decibel / 60));
}

/** The two header packets of Ogg Opus (RFC 7845), by which programs record us: a length in two bytes, then both. */
function opus_parameters(): Uint8Array {
  const text = (characters: string) => Array.from(characters, (character) => character.charCodeAt(0));
  const pre_skip = 312;
  const head = [
    ...text("OpusHead"),
    ...[1, 1, pre_skip & 0xff, pre_skip >> 8],
    ...[RATE & 0xff, (RATE >> 8) & 0xff, (RATE >> 16) & 0xff, 0],
    ...[0, 0, 0],
  ];
  const vendor = text("supernode");
  const tags = [...text("OpusTags"), vendor.length, 0, 0, 0, ...vendor, 0, 0, 0, 0];
  return Uint8Array.from([head.length >> 8, head.length & 0xff, ...head, ...tags]);
}
