/** What a recording says: which note, how loud, and where nothing was. */
const RATE = 48_000;
/** So long without sound is a gap. */
const GAP_MS = 5;

export interface Heard {
  /** The strongest of the notes that were asked for. */
  readonly hz: number;
  /** Of the whole. */
  readonly rms: number;
  /** Strength of each note that was asked for, as its amplitude. */
  readonly amplitudes: ReadonlyMap<number, number>;
  /** Part of the time in which there was nothing. */
  readonly gaps: number;
  readonly seconds: number;
}

export function judge(samples: readonly number[], notes: readonly number[]): Heard {
  const amplitudes = new Map(notes.map((hz) => [hz, amplitude(samples, hz)]));
  const [hz] = [...amplitudes].sort((a, b) => b[1] - a[1])[0] ?? [0];
  const rms = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, samples.length));
  return { hz, rms, amplitudes, gaps: gaps(samples, rms), seconds: samples.length / RATE };
}

/** Those of these notes that are in it, with others or alone. */
export function notes_in(samples: readonly number[], notes: readonly number[], least: number): number[] {
  return notes.filter((hz) => amplitude(samples, hz) > least);
}

/** Of one note, by Goertzel over windows of 100 ms: the median, since the phase may jump. */
function amplitude(samples: readonly number[], hz: number): number {
  const window = RATE / 10;
  const found: number[] = [];
  for (let at = 0; at + window <= samples.length; at += window) {
    let [cosine, sine] = [0, 0];
    for (let inside = 0; inside < window; inside++) {
      const angle = (2 * Math.PI * hz * inside) / RATE;
      const sample = samples[at + inside] ?? 0;
      cosine += sample * Math.cos(angle);
      sine += sample * Math.sin(angle);
    }
    found.push((2 * Math.hypot(cosine, sine)) / window);
  }
  return found.sort((a, b) => a - b)[found.length >> 1] ?? 0;
}

function gaps(samples: readonly number[], rms: number): number {
  const window = (RATE * GAP_MS) / 1000;
  let quiet = 0;
  let all = 0;
  for (let at = 0; at + window <= samples.length; at += window) {
    const power = samples.slice(at, at + window).reduce((sum, sample) => sum + sample * sample, 0) / window;
    quiet += Math.sqrt(power) < rms / 10 ? 1 : 0;
    all += 1;
  }
  return quiet / Math.max(1, all);
}
