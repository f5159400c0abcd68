/** What the tests have of the page: its engine without screens, and ears at its output. */
import { PageEngine } from "../../front/engine/engine.ts";

/** Runs in the worklet: gives all that is heard to the page. */
const TAP = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process(inputs) {
    const heard = inputs[0]?.[0];
    if (heard !== undefined) this.port.postMessage(heard.slice());
    return true;
  }
})`;

export interface TestPage {
  readonly engine: PageEngine;
  /** What is heard within so long, at 48,000 a second. */
  listen(ms: number): Promise<number[]>;
  /** The mean colour of each quarter of what is shown of somebody, and how often it changed within so long. */
  look(device: string, what: "camera" | "screen", ms: number): Promise<{ colours: number[][]; changes: number; width: number; height: number }>;
  decode(base64: string): Promise<number[]>;
}

// A browser takes a steady note for noise, and takes it away: that is not what is tested here.
const devices = navigator.mediaDevices;
const get_user_media = devices.getUserMedia.bind(devices);
devices.getUserMedia = (asked) => {
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const audio = typeof asked?.audio === "object" ? { ...asked.audio, ...untouched } : asked?.audio;
  return get_user_media({ ...asked, ...(audio === undefined ? {} : { audio }) });
};

const engine = new PageEngine();

async function listen(ms: number): Promise<number[]> {
  const output = engine.output;
  if (output === undefined) {
    throw new Error("nothing is played yet");
  }
  const context = output.context as AudioContext;
  try {
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(TAP)}`);
  } catch {
    // There already.
  }
  const tap = new AudioWorkletNode(context, "tap");
  const parts: Float32Array[] = [];
  tap.port.onmessage = (event: MessageEvent<Float32Array>) => {
    parts.push(event.data);
  };
  output.connect(tap);
  tap.connect(context.destination);
  await new Promise((done) => setTimeout(done, ms));
  output.disconnect(tap);
  tap.disconnect();
  return parts.flatMap((part) => Array.from(part));
}

async function look(device: string, what: "camera" | "screen", ms: number) {
  const canvas = document.createElement("canvas");
  canvas.style.width = "320px";
  canvas.style.height = "180px";
  document.body.append(canvas);
  engine.show(device, what, canvas);
  const seen = new Set<string>();
  let colours: number[][] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    await new Promise((done) => setTimeout(done, 20));
    colours = quarters(canvas);
    seen.add(JSON.stringify(colours.map((colour) => colour.map((part) => Math.round(part)))));
  }
  engine.show(device, what, undefined);
  const { width, height } = canvas;
  canvas.remove();
  return { colours, changes: seen.size - 1, width, height };
}

function quarters(canvas: HTMLCanvasElement): number[][] {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [width, height] = [canvas.width >> 1, canvas.height >> 1];
  return [0, 1, 2, 3].map((quarter) => {
    const data = context?.getImageData((quarter % 2) * width, (quarter >> 1) * height, width, height).data ?? [];
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

(globalThis as unknown as { test: TestPage }).test = { engine, listen, look, decode };
