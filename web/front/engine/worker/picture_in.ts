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

export class PictureIn {
  readonly #track: string;
  readonly #codec: string | undefined;
  readonly #show: (frame: VideoFrame) => void;
  #incoming: Incoming | undefined;
  #decoder: VideoDecoder | undefined;
  #wants_key = true;
  #higher = 0;
  #asked_at = -Infinity;
  is_over = false;
  seen = 0;

  constructor(track: string, codec: string, show: (frame: VideoFrame) => void) {
    this.#track = track;
    this.#codec = CODECS[codec];
    this.#show = show;
  }

  async start(room: Room, is_screen: boolean): Promise<void> {
    this.#incoming = await room.subscribe(this.#track, 0, is_screen, (payload, _captured, place, keyframe, temporal) => {
      if (payload === undefined) {
        this.stop();
      } else {
        this.#take(payload, place ?? 0, keyframe === true, temporal ?? 0);
      }
    });
    if (this.is_over) {
      this.stop();
    }
  }

  stop(): void {
    this.is_over = true;
    this.#incoming?.free();
    this.#incoming = undefined;
    if (this.#decoder?.state === "configured") {
      this.#decoder.close();
    }
    this.#decoder = undefined;
  }

  #take(payload: Uint8Array<ArrayBuffer>, place_us: number, keyframe: boolean, temporal: number): void {
    this.#higher = temporal === 0 ? 0 : this.#higher + 1;
    if (keyframe) {
      this.#wants_key = false;
    } else if (this.#higher > HIGHER_MAX) {
      this.#wants_key = true;
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
    decoder.decode(new EncodedVideoChunk({ type: keyframe ? "key" : "delta", timestamp: place_us, data: payload }));
  }

  #ready_decoder(): VideoDecoder | undefined {
    if (this.#codec === undefined || this.#decoder?.state === "configured") {
      return this.#decoder;
    }
    const decoder = new VideoDecoder({
      output: (frame) => {
        this.seen += 1;
        this.#show(frame);
      },
      // Bytes that are no picture: the next key frame makes another decoder.
      error: () => {
        this.#decoder = undefined;
        this.#wants_key = true;
      },
    });
    decoder.configure({ codec: this.#codec, optimizeForLatency: true });
    this.#decoder = decoder;
    return decoder;
  }

  #ask(): void {
    if (performance.now() - this.#asked_at > ASK_EVERY_MS) {
      this.#asked_at = performance.now();
      this.#incoming?.request_keyframe();
    }
  }
}
