/** Beats that were heard and seen, and how far they are apart. */
import type { Person } from "./browsers.ts";
import type { TestPage } from "./page.ts";

declare const globalThis: { test: TestPage };

/** None is taken for another with less delay than this. */
export const BEAT_MS = 800;

/** From each of the first until the next of the second. */
export function delays(from: readonly number[], until: readonly number[], least = 0): number[] {
  return from.flatMap((at) => until.filter((heard) => heard > at + least && heard < at + least + BEAT_MS).slice(0, 1).map((heard) => heard - at));
}

export function median(all: readonly number[]): number {
  return [...all].sort((a, b) => a - b)[all.length >> 1] ?? NaN;
}

/** How much later each beat of somebody's is seen than heard, within so long: either may be first. */
export async function pictures_behind_sound(who: Person, device: string, ms: number): Promise<number[]> {
  const seen = who.page.evaluate(async (device, ms) => await globalThis.test.eye_beats(device, ms), device, ms + 1000);
  const heard = await who.page.evaluate(async (ms) => await globalThis.test.ear_beats(ms), ms);
  return delays(heard, await seen, -BEAT_MS / 2);
}
