/**
 * One voice on its way to the loudspeaker: packets come in bursts, and samples go out evenly, by another clock than that
 * of whoever sent them. A little is kept in stock; by how much there is, it is played a little faster or slower, which
 * nobody hears. It touches nothing but itself, so it runs in a worklet and in tests.
 */
import { Concealer, HISTORY, RATE } from "./conceal.ts";

const MS = RATE / 1000;
/** A packet. */
const PACKET = 20 * MS;
/** The least stock: packets are handed out by timers, which are some milliseconds late. */
const STOCK_MIN = 25 * MS;
const STOCK_MAX = 160 * MS;
/** More stock after each time that there was none. */
const STOCK_STEP = 10 * MS;
/** After so long without that, half of what was not needed goes: beyond how far it fell, and this. */
const CALM = 2 * RATE;
const RESERVE = 10 * MS;
/** Above the wanted stock by so much, a period of the voice is left out now and then, until it is not. */
const MUCH = 20 * MS;
/** The period is looked for in what was heard, and in that no blend may be. */
const CUT_EVERY = 40 * MS;
/** Above the wanted stock by so much, some is left out. */
const TOO_MUCH = 200 * MS;
/** The most by which it is played faster or slower: a twentieth of a semitone or so. */
const BEND_MAX = 0.005;
/** How fast the stock's size is followed: it jumps by a packet fifty times a second, and that is to be seen past. */
const SMOOTHING = 0.02;
/** Where one thing goes over into another. */
const BLEND = 5 * MS;
const CAPACITY = RATE;
/** Packets that are made up in a row at most. */
const MADE_UP_MAX = 4;

export interface VoiceFigures {
  /** Samples given out since it began. */
  readonly played: number;
  /** Of these, made up. */
  readonly concealed: number;
  /** Longest time without anything but silence since it began, in samples; silence that was sent counts as sound. */
  readonly silence_max: number;
  /** In stock, in samples. */
  readonly stock: number;
}

export class Voice {
  readonly #ring = new Float32Array(CAPACITY);
  /** Samples written and read since the beginning; what is read is between two of them. */
  #written = 0;
  #read = 0;
  readonly #history = new Float32Array(HISTORY);
  /** While packets are missing, what goes on in their place; the next one that comes is blended in. */
  #making_up: Concealer | undefined;
  #made_up = 0;
  /** While the stock is empty, what is heard. */
  #bridging: Concealer | undefined;
  /** What was heard last, for the above. */
  readonly #heard = new Float32Array(HISTORY);
  #heard_at = 0;
  #is_playing = false;
  /** Samples of the present blend that are still to come. */
  #blend = 0;
  #wanted = STOCK_MIN;
  #smooth = STOCK_MIN;
  /** Since it ran dry, or was looked at: for how long, its sum over all quanta, and its least. */
  #calm = 0;
  #sum = 0;
  #quanta = 0;
  #lowest = Infinity;
  #since_blend = 0;
  #played = 0;
  #concealed = 0;
  #silence = 0;
  #silence_max = 0;

  /** Sound came, of any length. */
  push(samples: Float32Array): void {
    const blend = this.#making_up;
    this.#making_up = undefined;
    this.#made_up = 0;
    samples.forEach((sample, at) => {
      const mixed = blend !== undefined && at < BLEND ? mix(blend.next(), sample, at / BLEND) : sample;
      this.#write(mixed);
    });
    this.#remember(samples);
    if (this.#stock > this.#wanted + TOO_MUCH) {
      this.#read = this.#written - this.#wanted;
      this.#smooth = this.#wanted;
      this.#begin_blend();
    }
  }

  /** So many packets did not come in time. */
  miss(packets: number): void {
    this.#making_up ??= new Concealer(this.#history);
    for (let packet = 0; packet < packets && this.#made_up < MADE_UP_MAX; packet++) {
      this.#made_up += 1;
      for (let at = 0; at < PACKET; at++) {
        this.#write(this.#making_up.next());
      }
      this.#concealed += PACKET;
    }
  }

  /** Adds what is to be heard now. */
  add_to(out: Float32Array): void {
    if (!this.#is_playing && this.#stock >= this.#wanted) {
      this.#is_playing = true;
      this.#smooth = this.#stock;
      this.#begin_blend();
    }
    this.#smooth += (this.#stock - this.#smooth) * SMOOTHING;
    const bend = (this.#smooth - this.#wanted) / (RATE / 2);
    const step = 1 + Math.max(-BEND_MAX, Math.min(BEND_MAX, bend));
    this.#since_blend += out.length;
    if (this.#is_playing && this.#blend === 0 && this.#smooth > this.#wanted + MUCH && this.#since_blend >= CUT_EVERY) {
      this.#cut();
    }
    for (let at = 0; at < out.length; at++) {
      const sample = this.#next(step);
      out[at] = (out[at] ?? 0) + sample;
      this.#heard[this.#heard_at] = sample;
      this.#heard_at = (this.#heard_at + 1) % HISTORY;
    }
    this.#grow_calm(out.length);
  }

  figures(): VoiceFigures {
    return { played: this.#played, concealed: this.#concealed, silence_max: this.#silence_max, stock: this.#stock };
  }

  get #stock(): number {
    return this.#written - this.#read;
  }

  #next(step: number): number {
    if (this.#is_playing && this.#stock < 4) {
      this.#run_dry();
    }
    if (!this.#is_playing) {
      return this.#bridge();
    }
    this.#played += 1;
    this.#silence = 0;
    const sample = this.#between(this.#read);
    this.#read += step;
    if (this.#blend === 0) {
      this.#bridging = undefined;
      return sample;
    }
    this.#blend -= 1;
    return mix(this.#bridging?.next() ?? 0, sample, 1 - this.#blend / BLEND);
  }

  #run_dry(): void {
    this.#is_playing = false;
    this.#blend = 0;
    this.#begin_bridge();
    this.#wanted = Math.min(STOCK_MAX, this.#wanted + STOCK_STEP);
    this.#look_anew();
  }

  /** While there is no stock. */
  #bridge(): number {
    const bridging = this.#bridging;
    if (bridging === undefined) {
      return 0;
    }
    this.#played += 1;
    this.#concealed += 1;
    if (bridging.is_over) {
      this.#silence += 1;
      this.#silence_max = Math.max(this.#silence_max, this.#silence);
    }
    return bridging.next();
  }

  /** From what is heard now, or would be, to what comes next. */
  #begin_blend(): void {
    // In the middle of another blend, what is heard is neither of its sides.
    if (this.#played > 0 && (this.#bridging === undefined || this.#blend > 0)) {
      this.#begin_bridge();
    }
    this.#blend = BLEND;
    this.#since_blend = 0;
  }

  #begin_bridge(): void {
    const heard = new Float32Array(HISTORY);
    heard.set(this.#heard.subarray(this.#heard_at));
    heard.set(this.#heard.subarray(0, this.#heard_at), HISTORY - this.#heard_at);
    this.#bridging = new Concealer(heard);
  }

  /** Leaves out one period: what comes next goes on as what was heard did. */
  #cut(): void {
    this.#begin_blend();
    const period = Math.min(this.#bridging?.period ?? 0, this.#stock - this.#wanted);
    this.#read += period;
    this.#smooth -= period;
  }

  #grow_calm(samples: number): void {
    this.#calm += samples;
    this.#sum += this.#stock;
    this.#quanta += 1;
    this.#lowest = Math.min(this.#lowest, this.#stock);
    if (this.#calm >= CALM) {
      const needed = this.#sum / this.#quanta - this.#lowest + RESERVE;
      this.#wanted = Math.max(STOCK_MIN, Math.min(this.#wanted, (this.#wanted + needed) / 2));
      this.#look_anew();
    }
  }

  #look_anew(): void {
    this.#calm = 0;
    this.#sum = 0;
    this.#quanta = 0;
    this.#lowest = Infinity;
  }

  #write(sample: number): void {
    this.#ring[this.#written % CAPACITY] = sample;
    this.#written += 1;
    if (this.#stock > CAPACITY - 8) {
      this.#read = this.#written - CAPACITY + 8;
    }
  }

  #remember(samples: Float32Array): void {
    const kept = samples.subarray(Math.max(0, samples.length - HISTORY));
    this.#history.copyWithin(0, kept.length);
    this.#history.set(kept, HISTORY - kept.length);
  }

  /** Between samples, by the cubic through the four around (Catmull-Rom). */
  #between(at: number): number {
    const whole = Math.floor(at);
    const part = at - whole;
    const a = this.#ring[(whole + CAPACITY - 1) % CAPACITY] ?? 0;
    const b = this.#ring[whole % CAPACITY] ?? 0;
    const c = this.#ring[(whole + 1) % CAPACITY] ?? 0;
    const d = this.#ring[(whole + 2) % CAPACITY] ?? 0;
    return b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)));
  }
}

function mix(from: number, to: number, share: number): number {
  return from + (to - from) * share;
}
