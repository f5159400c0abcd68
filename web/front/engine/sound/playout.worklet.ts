/** Mixes the voices of all others. What they say comes by the port, and how it goes leaves by it. */
import type { FromPlayout, ToPlayout } from "../messages.ts";
import { RATE } from "./conceal.ts";
import { Voice } from "./voice.ts";

/** How often it is told how it goes, in samples. */
const TOLD_EVERY = RATE / 2;

class Playout extends AudioWorkletProcessor {
  readonly #voices = new Map<string, Voice>();
  #until_told = TOLD_EVERY;

  constructor() {
    super();
    this.port.onmessage = (event: MessageEvent<ToPlayout>) => {
      const message = event.data;
      if ("over" in message) {
        this.#voices.delete(message.voice);
        return;
      }
      let voice = this.#voices.get(message.voice);
      if (voice === undefined) {
        voice = new Voice();
        this.#voices.set(message.voice, voice);
      }
      if ("samples" in message) {
        voice.push(message.samples);
      } else {
        voice.miss(message.missing);
      }
    };
  }

  override process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
    const [first, ...others] = outputs[0] ?? [];
    if (first === undefined) {
      return true;
    }
    for (const voice of this.#voices.values()) {
      voice.add_to(first);
    }
    for (const other of others) {
      other.set(first);
    }
    this.#until_told -= first.length;
    if (this.#until_told <= 0) {
      this.#until_told = TOLD_EVERY;
      const voices = [...this.#voices].map(([name, voice]) => [name, voice.figures()] as const);
      this.port.postMessage({ voices } satisfies FromPlayout);
    }
    return true;
  }
}

registerProcessor("playout", Playout);
