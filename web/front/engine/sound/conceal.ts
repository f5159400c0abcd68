/**
 * What is heard in place of sound that did not come: the last period of what was heard, again and again, softer and softer.
 * A voice goes on as it was for the length of a packet, and nobody hears a click where it stops.
 */

/** Samples a second, everywhere here. */
export const RATE = 48_000;
/** Shortest and longest period that is looked for: 500 and 66 Hz. */
const LAG_MIN = 96;
const LAG_MAX = 720;
/** So much of the end is compared with what was before it. */
const WINDOW = 480;
/** So much has to be remembered of what was heard. */
export const HISTORY = LAG_MAX + WINDOW;
/** As loud as it was for so long, then fading to nothing. */
const FULL = RATE / 100;
const GONE = (RATE * 8) / 100;

export class Concealer {
  readonly #period: Float32Array;
  #at = 0;

  /** Goes on from where `history`, of `HISTORY` samples, ends. */
  constructor(history: Float32Array) {
    const lag = period_of(history);
    this.#period = history.slice(history.length - lag);
  }

  /** The next sample. */
  next(): number {
    const at = this.#at++;
    if (at >= GONE) {
      return 0;
    }
    const gain = at < FULL ? 1 : (GONE - at) / (GONE - FULL);
    return (this.#period[at % this.#period.length] ?? 0) * gain;
  }

  /** The period, in samples. */
  get period(): number {
    return this.#period.length;
  }

  /** Whether there is nothing more to be heard. */
  get is_over(): boolean {
    return this.#at >= GONE;
  }
}

/** By how many samples the end of this is most like what was before it. */
function period_of(history: Float32Array): number {
  const end = history.length - WINDOW;
  let best = LAG_MAX;
  let best_likeness = 0;
  // Coarsely first: the likeness of neighbours differs little.
  for (let lag = LAG_MIN; lag <= LAG_MAX; lag += 4) {
    const likeness = likeness_at(history, end, lag, 4);
    // A multiple of the period is as good as the period: only what is clearly better counts.
    if (likeness > best_likeness + 0.02) {
      best = lag;
      best_likeness = likeness;
    }
  }
  let fine = best;
  let fine_likeness = 0;
  for (let lag = Math.max(LAG_MIN, best - 4); lag <= Math.min(LAG_MAX, best + 4); lag++) {
    const likeness = likeness_at(history, end, lag, 1);
    if (likeness > fine_likeness) {
      fine = lag;
      fine_likeness = likeness;
    }
  }
  return fine;
}

function likeness_at(samples: Float32Array, end: number, lag: number, step: number): number {
  let product = 0;
  let own = 0;
  let before = 0;
  for (let at = end; at < end + WINDOW; at += step) {
    const now = samples[at] ?? 0;
    const then = samples[at - lag] ?? 0;
    product += now * then;
    own += now * now;
    before += then * then;
  }
  return own * before > 0 ? product / Math.sqrt(own * before) : 0;
}
