/** Our camera, or our screen: frames in, VP8 or AV1 in layers of time out, as wide as those can take who look. */
import type { Outgoing, Room } from "wasm:supernode_web";

import { fresh_id } from "./bytes.ts";
import { CODEC_NAMES, IVF_NAMES, SCALABILITY, type Codec } from "./codecs.ts";
import { SMALL_NAME } from "./sizes.ts";

/** How large and how often. A base layer of every fourth frame, one of every second, and all: what the relay thins by. */
interface Quality {
  readonly height: number;
  readonly fps: number;
  readonly bits_per_second: number;
}

/** What is published: one track of its name. */
interface Sort {
  readonly kind: "video" | "screen";
  readonly name: string;
  /** From the best to the least. */
  readonly qualities: readonly Quality[];
}

/** What a camera's picture comes to in small tiles and over narrow paths. What follows sound at 100 kbit/s is the last one. */
const SMALL: readonly Quality[] = [
  { height: 180, fps: 15, bits_per_second: 120_000 },
  { height: 180, fps: 8, bits_per_second: 50_000 },
];
export const SORTS = {
  camera: {
    kind: "video",
    name: "camera",
    qualities: [
      { height: 720, fps: 30, bits_per_second: 1_500_000 },
      { height: 360, fps: 30, bits_per_second: 600_000 },
      { height: 360, fps: 20, bits_per_second: 300_000 },
      ...SMALL,
    ],
  },
  small: { kind: "video", name: SMALL_NAME, qualities: SMALL },
  screen: {
    kind: "screen",
    name: "screen",
    qualities: [
      { height: 1080, fps: 15, bits_per_second: 2_000_000 },
      { height: 1080, fps: 10, bits_per_second: 900_000 },
      { height: 720, fps: 5, bits_per_second: 400_000 },
      { height: 720, fps: 2, bits_per_second: 150_000 },
    ],
  },
} as const satisfies Record<string, Sort>;
/** What sound and everything around it take of a path. */
const BESIDE_BITS_PER_SECOND = 90_000;
/** Of the rest so much is for one picture. */
const SHARE = 0.8;
const TTL_MS = 1500;
/** Frames that wait for the connection: with more, our own path is too narrow. */
const WAITING_MAX = 6;
const ENCODING_MAX = 2;
/** Frames that the encoder had no time for, each forgiven by five that it had: with more, the processor is too slow. */
const LATE_MAX = 10;
/** After a step down for our own sake, a step up is tried after so long. */
const CALM_MS = 8000;

interface Demand {
  readonly subscribers: number;
  readonly bits_per_second: number | null;
}

export class PictureOut {
  readonly #sort: Sort;
  readonly #wanted: () => void;
  readonly #slow: () => void;
  #codec: Codec = "vp8";
  #track: Outgoing | undefined;
  #encoder: VideoEncoder | undefined;
  #size = "";
  #demand: Demand = { subscribers: 0, bits_per_second: null };
  #late = 0;
  /** Steps down for the sake of our own path and processor. */
  #steps = 0;
  #stepped_at = 0;
  #wants_keyframe = true;
  #last_us = -Infinity;
  /** Largest of the pictures that are shown anywhere is not known; of a large call, small ones are enough. */
  #height_max = 720;
  readonly #scaler = new OffscreenCanvas(16, 16);

  /** `wanted` is called when other frames are of use than before, and `slow` when the processor is too slow for the codec. */
  constructor(sort: Sort, wanted: () => void, slow: () => void) {
    this.#sort = sort;
    this.#wanted = wanted;
    this.#slow = slow;
  }

  async publish(room: Room, codec: Codec): Promise<void> {
    const { kind, name } = this.#sort;
    this.#codec = codec;
    this.#track = await room.publish(fresh_id(), kind, name, codec, ivf_header(codec), TTL_MS, (told, json) => {
      if (told === "keyframe") {
        this.#wants_keyframe = true;
      } else if (json !== undefined) {
        this.#take_demand(JSON.parse(json) as Demand);
      }
    });
    this.#wanted();
  }

  get is_published(): boolean {
    return this.#track !== undefined;
  }

  get codec(): Codec {
    return this.#codec;
  }

  /** Which frames are of use: as many lines, and so many a second. */
  get wanted(): { readonly height: number; readonly fps: number } {
    const { height, fps } = this.#quality();
    return { height, fps: this.#demand.subscribers > 0 && this.#track !== undefined ? fps : 0 };
  }

  /** Others hear that it is over. */
  async end(): Promise<void> {
    const track = this.#track;
    this.#track = undefined;
    this.#demand = { subscribers: 0, bits_per_second: null };
    this.#wanted();
    if (this.#encoder?.state === "configured") {
      this.#encoder.close();
    }
    this.#encoder = undefined;
    await track?.finish();
    track?.free();
  }

  /** How large pictures of one member are at most, with so many in the call. */
  set_people(people: number): void {
    this.#height_max = people <= 2 ? 720 : people <= 9 ? 360 : 180;
    this.#wanted();
  }

  /** Takes the frame and closes it. */
  take(frame: VideoFrame): void {
    try {
      this.#encode(frame);
    } finally {
      frame.close();
    }
  }

  #encode(frame: VideoFrame): void {
    const track = this.#track;
    if (track === undefined || this.#demand.subscribers === 0 || track.is_dead()) {
      return;
    }
    if (track.waiting() > WAITING_MAX) {
      this.#step_down();
      return;
    }
    this.#step_up();
    const quality = this.#quality();
    // A frame that comes a little early is as good as one that is on time.
    if (frame.timestamp - this.#last_us < 900_000 / quality.fps - 4000) {
      return;
    }
    const [width, height] = size_of(frame, quality.height);
    const encoder = this.#ready_encoder(width, height, quality);
    if (encoder.encodeQueueSize > ENCODING_MAX) {
      this.#count_late();
      return;
    }
    this.#late = Math.max(0, this.#late - 0.2);
    this.#last_us = frame.timestamp;
    const keyFrame = this.#wants_keyframe;
    this.#wants_keyframe = false;
    // VP8 does not say how its colours are meant, and browsers show them as BT.709. Many cameras give others; what comes from
    // a canvas is such.
    if (frame.displayWidth === width && frame.displayHeight === height && frame.colorSpace.matrix === "bt709") {
      encoder.encode(frame, { keyFrame });
      return;
    }
    const scaled = this.#scale(frame, width, height);
    encoder.encode(scaled, { keyFrame });
    scaled.close();
  }

  #scale(frame: VideoFrame, width: number, height: number): VideoFrame {
    this.#scaler.width = width;
    this.#scaler.height = height;
    this.#scaler.getContext("2d", { alpha: false })?.drawImage(frame, 0, 0, width, height);
    return new VideoFrame(this.#scaler, { timestamp: frame.timestamp });
  }

  #ready_encoder(width: number, height: number, quality: Quality): VideoEncoder {
    const size = `${width}x${height} ${quality.bits_per_second}`;
    if (this.#encoder?.state !== "configured") {
      this.#encoder = new VideoEncoder({
        output: (chunk, metadata) => {
          this.#send(chunk, metadata);
        },
        // The next frame makes another one.
        error: () => {
          this.#encoder = undefined;
        },
      });
      this.#size = "";
    }
    if (size !== this.#size) {
      this.#size = size;
      this.#wants_keyframe = true;
      this.#encoder.configure({
        codec: CODEC_NAMES[this.#codec],
        width,
        height,
        bitrate: quality.bits_per_second,
        framerate: quality.fps,
        latencyMode: "realtime",
        scalabilityMode: SCALABILITY,
      });
    }
    return this.#encoder;
  }

  #send(chunk: EncodedVideoChunk, metadata: EncodedVideoChunkMetadata | undefined): void {
    const bytes = new Uint8Array(chunk.byteLength);
    chunk.copyTo(bytes);
    const layer = metadata?.svc?.temporalLayerId ?? 0;
    // The page stamps frames with the time of day; sound is counted from when this worker began.
    const place = Math.max(0, chunk.timestamp - performance.timeOrigin * 1000);
    const taken = this.#track?.send(bytes, place, chunk.type === "key", layer, 0, layer === 2);
    if (taken === false && layer < 2) {
      this.#wants_keyframe = true;
      this.#step_down();
    }
  }

  #take_demand(demand: Demand): void {
    if (demand.subscribers > 0 && this.#demand.subscribers === 0) {
      this.#wants_keyframe = true;
    }
    this.#demand = demand;
    this.#wanted();
  }

  /** As good as the widest path takes that leads to anybody, and our own. */
  #quality(): Quality {
    const all = this.#sort.qualities;
    const least = all[all.length - 1] as Quality;
    const paths = this.#demand.bits_per_second;
    const bits = paths === null ? Infinity : (paths - BESIDE_BITS_PER_SECOND) * SHARE;
    const is_small = (quality: Quality) => this.#sort.kind === "screen" || quality.height <= this.#height_max;
    const good = all.filter((quality) => is_small(quality) && quality.bits_per_second <= bits);
    return good[Math.min(this.#steps, good.length - 1)] ?? least;
  }

  #count_late(): void {
    this.#late += 1;
    if (this.#late > LATE_MAX) {
      this.#late = 0;
      if (this.#codec === "vp8") {
        this.#step_down();
      } else {
        this.#slow();
      }
    }
  }

  #step_down(): void {
    if (performance.now() - this.#stepped_at > 500) {
      this.#steps = Math.min(this.#steps + 1, this.#sort.qualities.length - 1);
      this.#stepped_at = performance.now();
      this.#wanted();
    }
  }

  #step_up(): void {
    if (this.#steps > 0 && performance.now() - this.#stepped_at > CALM_MS) {
      this.#steps -= 1;
      this.#stepped_at = performance.now();
      this.#wanted();
    }
  }

}

/** As large as the frame, and at most of this height; even, as the codec wants it. */
function size_of(frame: VideoFrame, height_max: number): [number, number] {
  const scale = Math.min(1, height_max / Math.min(frame.displayWidth, frame.displayHeight));
  const even = (size: number) => Math.max(2, Math.round((size * scale) / 2) * 2);
  return [even(frame.displayWidth), even(frame.displayHeight)];
}

/** An IVF header, by which programs record us: in milliseconds; each key frame says its own size. */
function ivf_header(codec: Codec): Uint8Array {
  const header = new DataView(new ArrayBuffer(32));
  Array.from("DKIF").forEach((character, at) => {
    header.setUint8(at, character.charCodeAt(0));
  });
  header.setUint16(6, 32, true);
  Array.from(IVF_NAMES[codec]).forEach((character, at) => {
    header.setUint8(8 + at, character.charCodeAt(0));
  });
  header.setUint16(12, 640, true);
  header.setUint16(14, 360, true);
  header.setUint32(16, 1000, true);
  header.setUint32(20, 1, true);
  return new Uint8Array(header.buffer);
}
