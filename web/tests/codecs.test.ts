/** AV1 where everybody can show it, VP8 as soon as somebody comes who cannot. What a browser makes with ease is forced here. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { type Person, person } from "./stage/browsers.ts";
import type { TestPage } from "./stage/page.ts";
import { HERE, enter, of_page, open_stage, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

/** The picture goes on while one codec takes the other's place. */
const STILL_MS_MAX = 3000;
/** Something small goes from side to side in one second. */
const CHANGES_MIN = 5;

const stage = open_stage();

/** Looks at the first of the others for so long: what is seen, and in which codec at the end. */
async function look(who: Person, name: string, ms: number) {
  const device = await who.page.evaluate((name) => globalThis.test.engine.state.people.find((person) => person.name === name)?.device ?? "", name);
  const looking = who.page.evaluate(async (device, ms) => await globalThis.test.look(device, "camera", ms), device, ms);
  const codecs = who.page.evaluate(async (ms) => {
    await new Promise((done) => setTimeout(done, ms - 500));
    return await globalThis.test.engine.looked_at();
  }, ms);
  return { ...(await looking), codecs: await codecs };
}

test("two who can are sent AV1 by each other, and VP8 once somebody is there who cannot", { timeout: 180_000, skip: !HERE.includes("chromium") }, async () => {
  const link = stage.relay.room();
  const [ada, bob] = [await person("chromium", 440, `${stage.url}?av1`), await person("chromium", 620, `${stage.url}?av1`)];
  const people = [ada, bob];
  try {
    // Small and slow: the processor makes it here.
    for (const who of people) {
      await who.page.evaluate(() => {
        globalThis.test.paint("#00a000");
      });
    }
    await enter(ada, link, "Ada", true);
    await enter(bob, link, "Bob", true);
    await until(bob, () => globalThis.test.engine.state.people.filter((person) => person.name !== "" && person.has_camera).length === 2);
    const both = await look(bob, "Ada", 5000);
    console.log(`in ${both.codecs.join()}: ${both.width}x${both.height}, ${both.changes} changes`);
    assert.deepEqual(both.codecs, ["camera av1"]);
    assert.ok(both.changes > CHANGES_MIN, JSON.stringify(both));

    const cy = await person("chromium", 850, `${stage.url}?vp8`);
    people.push(cy);
    const looking = look(bob, "Ada", 12_000);
    looking.catch(() => undefined);
    await enter(cy, link, "Cy", false);
    await until(cy, () => globalThis.test.engine.state.people.filter((person) => person.name !== "" && person.has_camera).length === 2);
    const seen = await look(cy, "Ada", 4000);
    const over = await looking;
    console.log(`with a third: in ${over.codecs.join()}, still for ${Math.round(over.still_ms)} ms at most; they see ${seen.changes} changes in ${seen.codecs.join()}`);
    assert.deepEqual([over.codecs, seen.codecs], [["camera-small vp8"], ["camera-small vp8"]]);
    assert.ok(over.still_ms < STILL_MS_MAX && seen.changes > CHANGES_MIN, JSON.stringify([over, seen]));
    assert.equal(await of_page(ada, () => globalThis.test.engine.state.phase.kind), "in");
  } finally {
    await Promise.all(people.map((who) => who.close()));
  }
});
