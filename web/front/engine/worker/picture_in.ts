/** Somebody's camera or screen: frames in, pictures out, until nobody looks any more. */
import type { Incoming, Room } from "wasm:supernode_web";

/** By the codec of a track's label. */
const CODECS: Readonly<Record<string, string>> = { vp8: "vp8", vp9: "vp09.00.40.08", av1: "av01.0.08M.08" };
/** Frames that the decoder has: with more it cannot keep up. */
const DECODING_MAX = 12;
/** Key frames are asked for at most so often. */
const ASK_EVERY_MS = 1000;
/** So many frames of higher layers without one of the lowest: that one is lost, and what follows is made of it. */
const HIGHER_MAX = 8;
/** From a canvas until it is on a screen: half of what passes from one of its frames to the next. */
const SCREEN_MS = 8;
/** How fast it is followed how long decoding takes. */
const SMOOTHING = 0.05;
/** A picture waits at most so long for its sound; what were to wait longer is on another time line. */
const HELD_MS_MAX = 400;

interface Held {
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly place_us: number;
  readonly keyframe: boolean;
}

/** What is known of when something is heard and seen. */
export interface Clocks {
  /** When the sound is heard that is at the same place on the sender's time line. */
  readonly heard_at_ms: (place_us: number) => number | undefined;
  /** How long what is decoded now takes until it is drawn. */
  readonly drawn_ms: () => number;
}

export class PictureIn {
  readonly #track: string;
  readonly #codec: string | undefined;
  readonly #show: (frame: VideoFrame) => void;
  readonly #clocks: Clocks;
  /** Those whose sound is still to be heard, in order. */
  readonly #held: Held[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #incoming: Incoming | undefined;
  #decoder: VideoDecoder | undefined;
  #wants_key = true;
  #higher = 0;
  #asked_at = -Infinity;
  /** When each frame that the decoder has was given to it, by its place; and how long it takes. */
  readonly #decoding = new Map<number, number>();
  #decode_ms = 0;
  is_over = false;
  seen = 0;
  /** How long before its time the newest frame came: less than nothing, and it was too late to be seen with its sound. */
  ahead_ms = 0;

  constructor(track: string, codec: string, show: (frame: VideoFrame) => void, clocks: Clocks) {
    this.#track = track;
    this.#codec = CODECS[codec];
    this.#show = show;
    this.#clocks = clocks;
  }

  async start(room: Room, is_screen: boolean): Promise<void> {
    this.#incoming = await room.subscribe(this.#track, 0, is_screen, (payload, _captured, place, keyframe, temporal) => {
      if (payload === undefined) {
        this.stop();
      } else {
        this.#look_at_layer(keyframe === true, temporal ?? 0);
        const frame = { payload, place_us: place ?? 0, keyframe: keyframe === true };
        this.ahead_ms = this.#wait_ms(frame) ?? 0;
        this.#held.push(frame);
        this.#release();
      }
    });
    if (this.is_over) {
      this.stop();
    }
  }

  stop(): void {
    this.is_over = true;
    clearTimeout(this.#timer);
    this.#held.length = 0;
    this.#decoding.clear();
    this.#incoming?.free();
    this.#incoming = undefined;
    if (this.#decoder?.state === "configured") {
      this.#decoder.close();
    }
    this.#decoder = undefined;
  }

  #look_at_layer(keyframe: boolean, temporal: number): void {
    this.#higher = temporal === 0 ? 0 : this.#higher + 1;
    if (!keyframe && this.#higher > HIGHER_MAX) {
      this.#wants_key = true;
    }
  }

  /** Decodes those whose time it is. */
  #release(): void {
    clearTimeout(this.#timer);
    for (let first = this.#held[0]; first !== undefined; first = this.#held[0]) {
      const wait_ms = this.#wait_ms(first) ?? 0;
      if (wait_ms > 1 && wait_ms <= HELD_MS_MAX) {
        this.#timer = setTimeout(() => {
          this.#release();
        }, wait_ms);
        return;
      }
      this.#held.shift();
      this.#decode(first);
    }
  }

  /** Until it is to be decoded, so that it is seen when its sound is heard; nothing if none is. */
  #wait_ms({ place_us }: Held): number | undefined {
    const heard_at_ms = this.#clocks.heard_at_ms(place_us);
    return heard_at_ms === undefined ? undefined : heard_at_ms - performance.now() - this.#decode_ms - this.#clocks.drawn_ms() - SCREEN_MS;
  }

  #decode({ payload, place_us, keyframe }: Held): void {
    if (keyframe) {
      this.#wants_key = false;
    }
    const decoder = this.#ready_decoder();
    if (decoder === undefined) {
      return;
    }
    if (decoder.decodeQueueSize > DECODING_MAX && !keyframe) {
      this.#wants_key = true;
    }
    if (this.#wants_key) {
      this.#ask();
      return;
    }
    this.#decoding.set(place_us, performance.now());
    decoder.decode(new EncodedVideoChunk({ type: keyframe ? "key" : "delta", timestamp: place_us, data: payload }));
  }

  #ready_decoder(): VideoDecoder | undefined {
    if (this.#codec === undefined || this.#decoder?.state === "configured") {
      return this.#decoder;
    }
    const decoder = new VideoDecoder({
      output: (frame) => {
        this.seen += 1;
        this.#follow(frame.timestamp);
        this.#show(frame);
      },
      // Bytes that are no picture: the next key frame makes another decoder.
      error: () => {
        this.#decoder = undefined;
        this.#decoding.clear();
        this.#wants_key = true;
      },
    });
    decoder.configure({ codec: this.#codec, optimizeForLatency: true });
    this.#decoder = decoder;
    return decoder;
  }

  /** A frame has come out; those before it that have not never will. */
  #follow(place_us: number): void {
    const given_at = this.#decoding.get(place_us);
    if (given_at !== undefined) {
      this.#decode_ms += (performance.now() - given_at - this.#decode_ms) * SMOOTHING;
    }
    for (const place of this.#decoding.keys()) {
      if (place <= place_us) {
        this.#decoding.delete(place);
      }
    }
  }

  #ask(): void {
    if (performance.now() - this.#asked_at > ASK_EVERY_MS) {
      this.#asked_at = performance.now();
      this.#incoming?.request_keyframe();
    }
  }
}
