/** A camera in two sizes: which of them is to be seen, by how large it is shown and what our path takes. */

/** The name of the track with the small picture; the other one's is any. */
export const SMALL_NAME = "camera-small";
/** Up to so many lines of a screen the small picture does: its own 180, and not quite half as many again. */
const SMALL_HEIGHT_MAX = 250;
/** On these the relay leaves most frames of a picture out: a small one that comes whole is better. */
const NARROW_RUNGS = ["NO_TEMPORAL_1", "NO_SPATIAL", "SPEAKER_ONLY", "AUDIO_ONLY"];
/** Large pictures are tried again when nothing was left out for so long; for twice as long when they were soon too much again. */
const WIDE_FOR_MS = 8000;
const WIDE_FOR_MS_MAX = 64_000;

/** Of somebody's pictures of one kind. */
export function size_to_see<Track extends { readonly name: string }>(tracks: readonly Track[], height: number, is_narrow: boolean): Track | undefined {
  const small = tracks.find((track) => track.name === SMALL_NAME);
  const whole = tracks.find((track) => track.name !== SMALL_NAME);
  return height <= SMALL_HEIGHT_MAX || is_narrow ? (small ?? whole) : (whole ?? small);
}

/** Whether our path takes small pictures only. */
export class Width {
  #is_narrow = false;
  #wide_since: number | undefined;
  #widened_at = -Infinity;
  #wide_for_ms = WIDE_FOR_MS;

  /** The relay leaves out so much of what it sends us, from now on. */
  handle_rung(rung: string, now_ms: number): void {
    if (NARROW_RUNGS.includes(rung)) {
      if (!this.is_narrow(now_ms)) {
        const has_held = now_ms - this.#widened_at >= WIDE_FOR_MS_MAX;
        this.#wide_for_ms = has_held ? WIDE_FOR_MS : Math.min(2 * this.#wide_for_ms, WIDE_FOR_MS_MAX);
      }
      this.#is_narrow = true;
      this.#wide_since = undefined;
    } else {
      this.#wide_since = rung === "FULL" ? (this.#wide_since ?? now_ms) : undefined;
    }
  }

  is_narrow(now_ms: number): boolean {
    if (this.#is_narrow && this.#wide_since !== undefined && now_ms - this.#wide_since >= this.#wide_for_ms) {
      this.#is_narrow = false;
      this.#widened_at = now_ms;
    }
    return this.#is_narrow;
  }
}
