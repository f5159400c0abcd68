/** What is heard while somebody rings or knocks: tones that are made, for a page of one file has no recordings. */
import type { State } from "../../contract.ts";

/** As long as a telephone rings before one takes it that nobody is there. */
const RINGS_MS_MAX = 60_000;
const RING_EVERY_MS = 2400;
const LOUDNESS = 0.12;
/** Hertz, and when each begins and ends, in seconds. */
type Tone = readonly [frequency: number, from: number, to: number];
const RING: readonly Tone[] = [[659, 0, 0.32], [831, 0.18, 0.5], [659, 0.6, 0.92], [831, 0.78, 1.1]];
const KNOCK: readonly Tone[] = [[392, 0, 0.09], [392, 0.16, 0.25]];

export class Sounds {
  #context: AudioContext | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #ends_at = 0;
  #rings = "";
  #knocks: ReadonlySet<string> = new Set();

  update({ ringing, knocking, phase }: State): void {
    const rings = ringing.map(({ id }) => id).join();
    if (rings !== this.#rings) {
      this.#rings = rings;
      this.#stop();
      if (rings !== "") this.#start();
    }
    const knocks = new Set(phase.kind === "in" ? knocking.map(({ identity }) => identity) : []);
    if ([...knocks].some((identity) => !this.#knocks.has(identity))) this.#play(KNOCK);
    this.#knocks = knocks;
  }

  close(): void {
    this.#stop();
    void this.#context?.close();
  }

  #start(): void {
    this.#ends_at = performance.now() + RINGS_MS_MAX;
    this.#play(RING);
    this.#timer = setInterval(() => {
      if (performance.now() > this.#ends_at) this.#stop();
      else this.#play(RING);
    }, RING_EVERY_MS);
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #play(tones: readonly Tone[]): void {
    const context = (this.#context ??= new AudioContext());
    // A page that nobody has touched yet may make no sound. What rings is seen all the same.
    if (context.state === "suspended") context.resume().catch(() => undefined);
    if (context.state === "suspended") return;
    for (const [frequency, from, to] of tones) {
      const tone = new OscillatorNode(context, { type: "sine", frequency });
      const volume = new GainNode(context, { gain: 0 });
      const start = context.currentTime + from;
      const end = context.currentTime + to;
      // In and out within a few milliseconds, or it clicks.
      volume.gain.setValueAtTime(0, start);
      volume.gain.linearRampToValueAtTime(LOUDNESS, start + 0.02);
      volume.gain.setValueAtTime(LOUDNESS, end - 0.06);
      volume.gain.linearRampToValueAtTime(0, end);
      tone.connect(volume).connect(context.destination);
      tone.start(start);
      tone.stop(end);
    }
  }
}
