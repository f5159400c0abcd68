/**
 * The browser of `cargo xtask demo --web`: somebody who is in a call by the page, and files of what became of it. It gathers;
 * xtask says what held.
 *
 *     call ADDRESS NAME SECONDS DIRECTORY    is in the call whose address is in that file: call.json, heard.pcm
 *     read SPEECH PICTURE SOUND VIDEO DIRECTORY    what is in files: read.json, speech.pcm, sound.pcm
 *
 * Sound is mono, 48,000 samples a second of 16 bits. A picture is the mean colours of 8 by 4 fields of it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { person, serve } from "./stage/browsers.ts";
import { Walker } from "./page_walker.ts";

/** What the microphone hums: xtask looks for it. */
const HUM_HZ = 440;
const LOOK_EVERY_MS = 100;
/** Of what is heard, no more is kept. */
const HEARD_S_MAX = 120;
const IVF_HEADER = 32;
const IVF_FRAME_HEADER = 12;

interface Recorder {
  /** What is heard since `from_s` of the context's clock. */
  recorder: { readonly parts: Int16Array[]; from_s: number; samples: number; readonly offsets_ms: number[] };
  looks: { readonly theirs: number[][]; readonly ours: number[][] };
}
declare const globalThis: Recorder & typeof window;

/** Before the page's own script: keeps what goes to the loudspeaker, and when it is heard there by the clock. */
function keep_what_is_heard(samples_max: number): void {
  const recorder = { parts: [] as Int16Array[], from_s: 0, samples: 0, offsets_ms: [] as number[] };
  globalThis.recorder = recorder;
  const tap = `registerProcessor("ear", class extends AudioWorkletProcessor {
    process(inputs) {
      const heard = inputs[0]?.[0];
      if (heard !== undefined) this.port.postMessage([currentTime, Int16Array.from(heard, (sample) => Math.max(-1, Math.min(1, sample)) * 32767)]);
      return true;
    }
  })`;
  const connect = Reflect.get(AudioNode.prototype, "connect") as (...to: unknown[]) => unknown;
  const ears = new Map<BaseAudioContext, Promise<AudioNode>>();
  const make = async (context: AudioContext): Promise<AudioNode> => {
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(tap)}`);
    const ear = new AudioWorkletNode(context, "ear");
    ear.port.onmessage = ({ data: [at_s, heard] }: MessageEvent<[number, Int16Array]>) => {
      if (recorder.samples === 0) recorder.from_s = at_s;
      if (recorder.samples < samples_max) recorder.parts.push(heard);
      recorder.samples += heard.length;
    };
    // Silent; but what leads nowhere is not run.
    connect.call(ear, context.destination);
    setInterval(() => {
      const { contextTime, performanceTime } = context.getOutputTimestamp();
      if (contextTime !== undefined && performanceTime !== undefined && contextTime > 0) {
        recorder.offsets_ms.push(performance.timeOrigin + performanceTime - contextTime * 1000);
      }
    }, 100);
    return ear;
  };
  const tapped = function (this: AudioNode, ...to: unknown[]): unknown {
    if (to[0] instanceof AudioDestinationNode && this instanceof AudioWorkletNode) {
      const context = this.context as AudioContext;
      const ear = ears.get(context) ?? make(context);
      ears.set(context, ear);
      void ear.then((ear) => connect.call(this, ear));
    }
    return connect.call(this, ...to);
  };
  Reflect.set(AudioNode.prototype, "connect", tapped);
}

/** Before the page's own script: looks at what the page shows of others and of us, from the door on. */
function keep_what_is_seen(every_ms: number): void {
  const looks = { theirs: [] as number[][], ours: [] as number[][] };
  globalThis.looks = looks;
  const context = new OffscreenCanvas(8, 4).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("no canvas");
  context.imageSmoothingQuality = "high";
  const look = (into: number[][], selector: string) => {
    const canvas = document.querySelector<HTMLCanvasElement>(selector);
    // As large as it was made, it has had no picture yet.
    if (canvas === null || canvas.hidden || (canvas.width === 300 && canvas.height === 150)) return;
    context.drawImage(canvas, 0, 0, 8, 4);
    into.push(Array.from(context.getImageData(0, 0, 8, 4).data).filter((_value, at) => at % 4 < 3));
  };
  setInterval(() => {
    look(looks.theirs, ".tile:not([data-me]) canvas");
    look(looks.ours, ".preview canvas, .tile[data-me] canvas");
  }, every_ms);
}

async function call(address: string, name: string, seconds: number, directory: string): Promise<void> {
  const walker = await Walker.open("chromium", name, HUM_HZ, address, [
    { run: keep_what_is_heard, with: HEARD_S_MAX * 48_000 },
    { run: keep_what_is_seen, with: LOOK_EVERY_MS },
  ]);
  const { page } = walker.who;
  try {
    // To draw much is what a machine without a screen is slow at.
    await page.setViewport({ width: 800, height: 600 });
    await walker.type("#name", name);
    await walker.press("Turn on microphone and camera");
    await walker.sees_moving(".preview canvas");
    await walker.press("Enter");
    await walker.sees_moving(".tile:not([data-me]) canvas");
    await new Promise((done) => setTimeout(done, seconds * 1000));
    await walker.press("Sealed end to end");
    await walker.until("digits", () => document.querySelectorAll(".digits li").length === 12);
    const safety_number = await page.$$eval(".digits li", (groups) => groups.map((group) => group.textContent).join(" "));
    await walker.escape();
    await walker.press("Leave");
    await walker.sees("You have left the call");
    const heard = await page.evaluate(() => {
      const { parts, from_s, offsets_ms } = globalThis.recorder;
      const samples = parts.flatMap((part) => Array.from(part));
      const offset_ms = offsets_ms.sort((a, b) => a - b)[offsets_ms.length >> 1];
      return { samples, from_unix_ms: offset_ms === undefined ? undefined : from_s * 1000 + offset_ms };
    });
    writeFileSync(join(directory, "heard.pcm"), Buffer.from(Int16Array.from(heard.samples).buffer));
    const looks = await page.evaluate(() => globalThis.looks);
    const complaints = await walker.complaints();
    writeFileSync(join(directory, "call.json"), JSON.stringify({ heard_from_unix_ms: heard.from_unix_ms, safety_number, complaints, ...looks }));
  } finally {
    await walker.close();
  }
}

async function read(speech: string, picture: string, sound: string, video: string, directory: string): Promise<void> {
  const { url, server } = await serve("<!doctype html><title>Files</title>");
  const reader = await person("chromium", HUM_HZ, url);
  const { page } = reader;
  try {
    for (const [file, name] of [[speech, "speech.pcm"], [sound, "sound.pcm"]] as const) {
      const samples = await page.evaluate(async (base64) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const decoded = await new OfflineAudioContext(1, 1, 48_000).decodeAudioData(bytes.buffer);
        return Array.from(decoded.getChannelData(0), (sample) => Math.max(-1, Math.min(1, sample)) * 32_767);
      }, readFileSync(file).toString("base64"));
      writeFileSync(join(directory, name), Buffer.from(Int16Array.from(samples).buffer));
    }
    const pictures = [];
    for (const file of [picture, video]) {
      pictures.push(await page.evaluate(fields_of, frames(readFileSync(file)).map((frame) => frame.toString("base64"))));
    }
    // What an Opus decoder gives first, by the file's header, is no sound: RFC 7845, section 4.2.
    const bytes = readFileSync(speech);
    const pre_skip = bytes.readUInt16LE(bytes.indexOf("OpusHead") + 10);
    const [of_file, of_video] = pictures;
    writeFileSync(join(directory, "read.json"), JSON.stringify({ pre_skip, picture: of_file, video: of_video }));
  } finally {
    await reader.close();
    server.close();
    server.closeAllConnections();
  }
}

/** The frames of an IVF file. */
function frames(file: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = IVF_HEADER; at + IVF_FRAME_HEADER <= file.length; ) {
    const length = file.readUInt32LE(at);
    found.push(file.subarray(at + IVF_FRAME_HEADER, at + IVF_FRAME_HEADER + length));
    at += IVF_FRAME_HEADER + length;
  }
  return found;
}

/** In a page: the fields of each picture of VP8. */
async function fields_of(base64: string[]): Promise<number[][]> {
  const found: number[][] = [];
  const context = new OffscreenCanvas(8, 4).getContext("2d");
  const decoder = new VideoDecoder({
    output: (frame) => {
      if (context !== null) {
        context.imageSmoothingQuality = "high";
        context.drawImage(frame, 0, 0, 8, 4);
        found.push(Array.from(context.getImageData(0, 0, 8, 4).data).filter((_value, at) => at % 4 < 3));
      }
      frame.close();
    },
    error: (error) => {
      throw error;
    },
  });
  decoder.configure({ codec: "vp8" });
  base64.forEach((text, at) => {
    const data = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    // Bit 0 of a frame of VP8 says whether it builds on others: RFC 6386, section 9.1.
    decoder.decode(new EncodedVideoChunk({ type: ((data[0] ?? 1) & 1) === 0 ? "key" : "delta", timestamp: at * 1000, data }));
  });
  await decoder.flush();
  return found;
}

const [what, ...words] = process.argv.slice(2);
const [first = "", second = "", third = "", fourth = "", fifth = ""] = words;
if (what === "call") await call(readFileSync(first, "utf8"), second, Number(third), fourth);
else if (what === "read") await read(first, second, third, fourth, fifth);
else throw new Error(`not call or read: ${String(what)}`);
