/**
 * Where each packet of a microphone stands on its track's time line. A worker gets packets in bursts whenever it or the
 * page has been busy, so the clock says little of one of them: samples say how much time has passed. The clock decides
 * only when packets stay late, since then some are missing. No packet is placed before the end of the one before it.
 */

/** A packet. */
const PACKET_US = 20_000;
/** Packets that are looked at before the clock is believed: half a second, longer than a burst. */
const LOOKED_AT = 25;
/** So late are all of them if samples are missing: the device slept, or packets were dropped. */
const MISSING_US = 60_000;
/** Nothing is busy for so long: the clock is believed at once. */
const SLEPT_US = 1_000_000;

export class TimeLine {
  #next_us = 0;
  #least_us = Infinity;
  #looked_at = 0;

  /** The place of a packet that came now. */
  place(now_us: number): number {
    const late_us = now_us - this.#next_us;
    if (late_us > SLEPT_US) {
      this.#skip(late_us);
    } else {
      this.#least_us = Math.min(this.#least_us, late_us);
      this.#looked_at += 1;
      if (this.#looked_at === LOOKED_AT) {
        this.#skip(this.#least_us > MISSING_US ? this.#least_us : 0);
      }
    }
    const place = this.#next_us;
    this.#next_us += PACKET_US;
    return place;
  }

  /** What comes next begins anew: nothing was sent for a while. */
  restart(now_us: number): void {
    this.#skip(Math.max(0, now_us - this.#next_us));
  }

  #skip(us: number): void {
    this.#next_us += us;
    this.#least_us = Infinity;
    this.#looked_at = 0;
  }
}
