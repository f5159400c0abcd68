/** What the tests have of the page: its engine without screens, and ears at its output. */
import { PageEngine } from "../../front/engine/engine.ts";
import { metronome } from "./metronome.ts";
import { encode_note } from "./ogg.ts";
import { painted } from "./painted.ts";

/** Runs in the worklet: gives all that is heard to the page, and when it passed. */
const TAP = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process(inputs) {
    const samples = inputs[0]?.[0]?.slice();
    if (samples !== undefined) this.port.postMessage({ at: Date.now(), samples });
    return true;
  }
})`;
/** A hum is never quieter, from one part to the next. */
const AUDIBLE = 0.01;
/** A sound begins that is as loud, after so long without. */
const LOUD = 0.05;
const QUIET_MS = 200;
/** A picture is bright whose mean is so, of 255. */
const BRIGHT = 128;

interface Tapped {
  readonly at: number;
  readonly samples: Float32Array;
}

export interface TestPage {
  readonly engine: PageEngine;
  /** What is heard within so long, at 48,000 a second. */
  listen(ms: number): Promise<number[]>;
  /** The mean colour of each quarter of what is shown of somebody in a tile of so many lines, how often it changed within so long,
   *  and how long at most it did not. */
  look(device: string, what: "camera" | "screen", ms: number, height?: number): Promise<{ colours: number[][]; changes: number; still_ms: number; width: number; height: number }>;
  decode(base64: string): Promise<number[]>;
  /** When sounds begin at our microphone, or at our loudspeaker with what it takes to be heard there, and when pictures of
   *  somebody turn bright: Unix time in milliseconds, within so long. */
  mouth_beats(ms: number): Promise<number[]>;
  ear_beats(ms: number): Promise<number[]>;
  eye_beats(device: string, ms: number): Promise<number[]>;
  /** Listens from now until it is asked for: the longest time without sound, of how much. */
  watch_silence(): Promise<void>;
  silence(): { longest_ms: number; seconds: number };
  /** From now on the devices are a metronome. */
  beat(): void;
  /** From now on the camera shows this colour. */
  paint(colour: string): void;
  /** A note as packets of Opus, in base64. */
  encode_note(hz: number, amplitude: number, seconds: number): Promise<string[]>;
}

// A browser takes a steady note for noise, and takes it away: that is not what is tested here.
const devices = navigator.mediaDevices;
const get_user_media = devices.getUserMedia.bind(devices);
let beats: Promise<MediaStream> | undefined;
let camera: MediaStreamTrack | undefined;
const given: MediaStream[] = [];
devices.getUserMedia = async (asked) => {
  if (beats !== undefined) {
    const tracks = (await beats).getTracks().filter((track) => asked?.[track.kind as "audio" | "video"] !== undefined);
    return new MediaStream(tracks.map((track) => track.clone()));
  }
  if (camera !== undefined && asked?.video !== undefined) {
    return new MediaStream([camera.clone()]);
  }
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const audio = typeof asked?.audio === "object" ? { ...asked.audio, ...untouched } : asked?.audio;
  const stream = await get_user_media({ ...asked, ...(audio === undefined ? {} : { audio }) });
  given.push(stream);
  return stream;
};

/** Of a page whose address ends so it is said that its browser can show and make this. */
const FORCED = { "?av1": "av1", "?vp8": "vp8" } as const;
const engine = new PageEngine(location.search in FORCED ? FORCED[location.search as keyof typeof FORCED] : undefined);

async function listen(ms: number): Promise<number[]> {
  return (await tapped(output(), ms)).flatMap(({ samples }) => Array.from(samples));
}

function output(): AudioNode {
  if (engine.output === undefined) {
    throw new Error("nothing is played yet");
  }
  return engine.output;
}

async function tapped(source: AudioNode, ms: number): Promise<Tapped[]> {
  const parts: Tapped[] = [];
  const stop = await tap(source, (part) => parts.push(part));
  await new Promise((done) => setTimeout(done, ms));
  stop();
  return parts;
}

/** Takes all that comes of this, until it is told to stop. */
async function tap(source: AudioNode, take: (part: Tapped) => void): Promise<() => void> {
  const context = source.context as AudioContext;
  try {
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(TAP)}`);
  } catch {
    // There already.
  }
  const node = new AudioWorkletNode(context, "tap");
  node.port.onmessage = (event: MessageEvent<Tapped>) => {
    take(event.data);
  };
  // What leads nowhere is not run, and nobody is to hear it twice.
  const nothing = new GainNode(context, { gain: 0 });
  source.connect(node).connect(nothing).connect(context.destination);
  return () => {
    source.disconnect(node);
    node.disconnect();
    nothing.disconnect();
  };
}

/** In samples. */
const silent = { now: 0, longest: 0, all: 0 };
let stop_watching: (() => void) | undefined;

async function watch_silence(): Promise<void> {
  stop_watching?.();
  Object.assign(silent, { now: 0, longest: 0, all: 0 });
  stop_watching = await tap(output(), ({ samples }) => {
    silent.all += samples.length;
    silent.now = samples.some((sample) => Math.abs(sample) > AUDIBLE) ? 0 : silent.now + samples.length;
    silent.longest = Math.max(silent.longest, silent.now);
  });
}

function silence(): { longest_ms: number; seconds: number } {
  return { longest_ms: silent.longest / 48, seconds: silent.all / 48_000 };
}

function begins(parts: readonly Tapped[]): number[] {
  const found: number[] = [];
  let quiet = 0;
  for (const { at, samples } of parts) {
    samples.forEach((sample, inside) => {
      if (Math.abs(sample) > LOUD) {
        if (quiet > QUIET_MS * 48) {
          found.push(at + inside / 48);
        }
        quiet = 0;
      } else {
        quiet += 1;
      }
    });
  }
  return found;
}

async function mouth_beats(ms: number): Promise<number[]> {
  const [mediaStream] = given;
  if (mediaStream === undefined) {
    throw new Error("there is no microphone");
  }
  return begins(await tapped(new MediaStreamAudioSourceNode(output().context as AudioContext, { mediaStream }), ms));
}

async function ear_beats(ms: number): Promise<number[]> {
  const context = output().context as AudioContext;
  const found = begins(await tapped(output(), ms));
  return found.map((at) => at + 1000 * (context.outputLatency || context.baseLatency));
}

async function eye_beats(device: string, ms: number): Promise<number[]> {
  const found: number[] = [];
  let was_bright = true;
  await watched(device, "camera", ms, 180, (colours) => {
    const is_bright = colours.flat().reduce((sum, part) => sum + part, 0) / 12 > BRIGHT;
    if (is_bright && !was_bright) {
      found.push(Date.now());
    }
    was_bright = is_bright;
  });
  return found;
}

async function look(device: string, what: "camera" | "screen", ms: number, lines = 180) {
  const seen = new Set<string>();
  let colours: number[][] = [];
  let [changed_at, still_ms, last] = [performance.now(), 0, ""];
  const { width, height } = await watched(device, what, ms, lines, (now) => {
    colours = now;
    const look = JSON.stringify(colours.map((colour) => colour.map((part) => Math.round(part))));
    // From nothing to the first picture is no standing still.
    if (look !== last) {
      still_ms = Math.max(still_ms, seen.size > 1 ? performance.now() - changed_at : 0);
      [changed_at, last] = [performance.now(), look];
    }
    seen.add(look);
  });
  return { colours, changes: seen.size - 1, still_ms, width, height };
}

/** Shows somebody for so long, and tells the mean colours of what is shown, again and again. */
async function watched(device: string, what: "camera" | "screen", ms: number, lines: number, see: (colours: number[][]) => void) {
  const canvas = document.createElement("canvas");
  canvas.style.width = `${(lines * 16) / 9}px`;
  canvas.style.height = `${lines}px`;
  document.body.append(canvas);
  engine.show(device, what, canvas);
  const end = performance.now() + ms;
  while (performance.now() < end) {
    await new Promise((done) => setTimeout(done, 10));
    see(quarters(canvas));
  }
  engine.show(device, what, undefined);
  const { width, height } = canvas;
  canvas.remove();
  return { width, height };
}

/** As small as it may be: to read a whole picture again and again would take the time that it is to be shown in. */
const looked_at = document.createElement("canvas");
[looked_at.width, looked_at.height] = [32, 32];
const looked_at_2d = looked_at.getContext("2d", { willReadFrequently: true, alpha: false });

function quarters(canvas: HTMLCanvasElement): number[][] {
  if (canvas.width > 0 && canvas.height > 0) {
    looked_at_2d?.drawImage(canvas, 0, 0, 32, 32);
  }
  return [0, 1, 2, 3].map((quarter) => {
    const data = looked_at_2d?.getImageData((quarter % 2) * 16, (quarter >> 1) * 16, 16, 16).data ?? [];
    const sum = [0, 0, 0];
    for (let at = 0; at < data.length; at += 4) {
      for (let part = 0; part < 3; part++) {
        sum[part] = (sum[part] ?? 0) + (data[at + part] ?? 0);
      }
    }
    return sum.map((total) => total / (data.length / 4));
  });
}

/** The samples of a recording: the browser knows Ogg Opus. */
async function decode(base64: string): Promise<number[]> {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const decoded = await new OfflineAudioContext(1, 1, 48_000).decodeAudioData(bytes.buffer);
  return Array.from(decoded.getChannelData(0));
}

(globalThis as unknown as { test: TestPage }).test = {
  engine,
  listen,
  look,
  decode,
  mouth_beats,
  ear_beats,
  eye_beats,
  watch_silence,
  silence,
  beat: () => {
    beats ??= metronome();
  },
  paint: (colour) => {
    camera = painted(colour);
  },
  encode_note,
};
