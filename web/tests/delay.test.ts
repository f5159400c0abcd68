/** From mouth to ear, and sound against picture. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { person } from "./stage/browsers.ts";
import type { TestPage } from "./stage/page.ts";
import { BEAT_MS, delays, median, pictures_behind_sound } from "./stage/beats.ts";
import { HERE, enter, open_stage, pause, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

const MOUTH_TO_EAR_MS_P50_MAX = 120;
const APART_MS_MAX = 80;

const stage = open_stage();

test("it takes less than 120 ms from mouth to ear, and soon after coming in", { timeout: 120_000, skip: !HERE.includes("chromium") }, async () => {
  const link = stage.relay.room();
  const people = [await person("chromium", 1000, stage.url, BEAT_MS), await person("chromium", 1000, stage.url, 8000)] as const;
  const [ada, bob] = people;
  try {
    await enter(ada, link, "Ada", false);
    await enter(bob, link, "Bob", false);
    await until(bob, () => globalThis.test.engine.state.people.filter((person) => person.has_microphone).length === 2);
    const beats = async (ms: number) => {
      const spoken = ada.page.evaluate(async (ms) => await globalThis.test.mouth_beats(ms), ms);
      const heard = bob.page.evaluate(async (ms) => await globalThis.test.ear_beats(ms), ms + 500);
      return delays(await spoken, await heard);
    };
    const early = await beats(4000);
    await pause(1000);
    const later = await beats(9000);
    const parts = await bob.page.evaluate(async () => await globalThis.test.engine.sound_parts());
    const figures = await bob.page.evaluate(async () => await globalThis.test.engine.figures());
    const round = (all: readonly number[]) => all.map(Math.round).join(" ");
    const said = `from mouth to ear ${Math.round(median(later))} ms (p50 of ${round(later)}), in the first seconds ${Math.round(median(early))} ms (${round(early)})`;
    console.log(said, JSON.stringify(parts), JSON.stringify(figures));
    assert.ok(later.length >= 9 && early.length >= 3, said);
    assert.ok(median(later) < MOUTH_TO_EAR_MS_P50_MAX, said);
    assert.ok(median(early) < 2 * MOUTH_TO_EAR_MS_P50_MAX, said);
  } finally {
    await Promise.all(people.map((who) => who.close()));
  }
});

for (const kind of HERE) {
  test(`what is heard and seen at once in ${kind} was said and shown at once`, { timeout: 120_000 }, async () => {
    const link = stage.relay.room();
    const people = await Promise.all([person("chromium", 440, stage.url), person(kind, 620, stage.url)]);
    const [ada, bob] = people;
    try {
      await ada.page.evaluate(() => {
        globalThis.test.beat();
      });
      await enter(ada, link, "Ada", true);
      await enter(bob, link, "Bob", false);
      await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name === "Ada" && person.has_camera));
      const device = await bob.page.evaluate(() => globalThis.test.engine.state.people.find((person) => !person.is_me)?.device ?? "");
      // The picture's size settles first.
      await bob.page.evaluate(async (device) => await globalThis.test.eye_beats(device, 2000), device);
      const apart = await pictures_behind_sound(bob, device, 9000);
      const said = `in ${kind} pictures come ${Math.round(median(apart))} ms after their sound (p50 of ${apart.map(Math.round).join(" ")})`;
      console.log(said, JSON.stringify(await bob.page.evaluate(async () => await globalThis.test.engine.sound_parts())));
      assert.ok(apart.length >= 6, said);
      assert.ok(Math.abs(median(apart)) < APART_MS_MAX, said);
    } finally {
      await Promise.all(people.map((who) => who.close()));
    }
  });
}
