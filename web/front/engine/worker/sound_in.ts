/** What somebody says: frames at their times in, samples out to the worklet that plays. */
import type { Incoming, Room } from "wasm:supernode_web";

import type { ToPlayout } from "../messages.ts";
import { from_hex } from "./bytes.ts";
import { level_of } from "./sound_out.ts";

const RATE = 48_000;
export const PACKET_MS = 20;
/** Of the newest frames, how long each was under way. */
const DELAYS_MAX = 100;
/** From a packet until it is in stock. */
const DECODE_MS = 2;
/** What is told of the stock is of any moment: on average it is so much more than when a packet comes. */
const TOLD_MORE_MS = PACKET_MS / 2;
/** How fast it is followed when a voice is heard: what is known of the stock jumps by a packet. */
const SMOOTHING = 0.03;
/** After so long without a packet, nothing is known of when the next one is heard. */
const SILENT_MS = 500;
/** Where OpusHead says how many channels there are: behind a length of two bytes. */
const CHANNELS_AT = 2 + 9;

export class SoundIn {
  readonly #voice: string;
  readonly #playout: () => MessagePort | undefined;
  readonly #channels: number;
  readonly #stock_ms: () => number;
  #incoming: Incoming | undefined;
  #decoder: AudioDecoder | undefined;
  /** What is to be told in the order in which it came: frames that the decoder has, and gaps. */
  readonly #order: ("frame" | number)[] = [];
  #number = 0;
  /** By how much a sample is heard later than its place on the track's time line says. */
  #behind_ms: number | undefined;
  #came_at = 0;
  is_over = false;
  level = 0;
  heard = 0;
  missing = 0;
  readonly delays_ms: number[] = [];

  /** `stock_ms` says how long what is decoded now waits until it is heard. */
  constructor(voice: string, parameters: string, playout: () => MessagePort | undefined, stock_ms: () => number) {
    this.#voice = voice;
    this.#playout = playout;
    this.#stock_ms = stock_ms;
    const channels = from_hex(parameters)[CHANNELS_AT];
    this.#channels = channels === 2 ? 2 : 1;
  }

  async start(room: Room): Promise<void> {
    this.#incoming = await room.play(
      this.#voice,
      (payload, captured_at_us, place_us) => {
        if (payload === undefined) {
          this.stop();
        } else {
          this.#follow(place_us ?? 0);
          this.#take(payload, captured_at_us ?? 0);
        }
      },
      (packets) => {
        this.missing += packets;
        this.#order.push(packets);
        this.#tell_gaps();
      },
    );
    if (this.is_over) {
      this.stop();
    }
  }

  /** How long after the fastest way it is decoded. */
  get jitter_ms(): number {
    return this.#incoming?.delay_ms() ?? 0;
  }

  stop(): void {
    this.is_over = true;
    this.level = 0;
    this.#incoming?.free();
    this.#incoming = undefined;
    if (this.#decoder?.state === "configured") {
      this.#decoder.close();
    }
    this.#tell({ voice: this.#voice, over: true });
  }

  /** When what is at this place of the time line is heard, by this worker's clock; nothing if nothing is. */
  heard_at_ms(place_us: number): number | undefined {
    const is_heard = this.#behind_ms !== undefined && !this.is_over && performance.now() - this.#came_at < SILENT_MS;
    return is_heard ? place_us / 1000 + (this.#behind_ms ?? 0) : undefined;
  }

  #follow(place_us: number): void {
    this.#came_at = performance.now();
    const behind_ms = this.#came_at + DECODE_MS + this.#stock_ms() - TOLD_MORE_MS - place_us / 1000;
    this.#behind_ms = (this.#behind_ms ?? behind_ms) + (behind_ms - (this.#behind_ms ?? behind_ms)) * SMOOTHING;
  }

  #take(payload: Uint8Array<ArrayBuffer>, captured_at_us: number): void {
    this.delays_ms.push(Date.now() - captured_at_us / 1000 + PACKET_MS);
    if (this.delays_ms.length > DELAYS_MAX) {
      this.delays_ms.shift();
    }
    this.#order.push("frame");
    // Each is a group of its own, so each can be begun with.
    const chunk = new EncodedAudioChunk({ type: "key", timestamp: this.#number++ * PACKET_MS * 1000, data: payload });
    this.#ready_decoder().decode(chunk);
  }

  #ready_decoder(): AudioDecoder {
    if (this.#decoder?.state === "configured") {
      return this.#decoder;
    }
    const decoder = new AudioDecoder({
      output: (data) => {
        this.#hear(data);
      },
      // Bytes that are no Opus: what waits for them is a gap, and the next packet makes another decoder.
      error: () => {
        this.#decoder = undefined;
        this.#order.splice(0, this.#order.length, ...this.#order.map((what) => (what === "frame" ? 1 : what)));
        this.#tell_gaps();
      },
    });
    decoder.configure({ codec: "opus", sampleRate: RATE, numberOfChannels: this.#channels });
    this.#decoder = decoder;
    return decoder;
  }

  #hear(data: AudioData): void {
    const samples = mono(data);
    data.close();
    this.heard += 1;
    this.level = level_of(samples);
    this.#order.shift();
    this.#tell({ voice: this.#voice, samples });
    this.#tell_gaps();
  }

  /** Those that are next. */
  #tell_gaps(): void {
    while (typeof this.#order[0] === "number") {
      this.#tell({ voice: this.#voice, missing: this.#order[0] });
      this.#order.shift();
    }
  }

  #tell(message: ToPlayout): void {
    this.#playout()?.postMessage(message, "samples" in message ? [message.samples.buffer] : []);
  }
}

/** One channel of whatever a browser's decoder gives. */
function mono(data: AudioData): Float32Array<ArrayBuffer> {
  const frames = data.numberOfFrames;
  const out = new Float32Array(frames);
  const channel = new Float32Array(frames);
  for (let plane = 0; plane < data.numberOfChannels; plane++) {
    data.copyTo(channel, { planeIndex: plane, format: "f32-planar" });
    channel.forEach((sample, at) => {
      out[at] = (out[at] ?? 0) + sample / data.numberOfChannels;
    });
  }
  return out;
}
