/** A camera in two sizes: who shows it small is sent a small picture, and who shows it large is not held back by that. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { type Person, person } from "./stage/browsers.ts";
import type { TestPage } from "./stage/page.ts";
import { FIRST, LAST, NO_BROWSER, enter, of_page, open_stage, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

/** Lines of tiles: large, and small. */
const [LARGE, SMALL] = [360, 180];
/** What is shown goes on while one size takes the other's place. */
const STILL_MS_MAX = 1500;

const stage = open_stage();

async function look(who: Person, device: string, lines: number, ms: number) {
  return await who.page.evaluate(
    async (device, lines, ms) => {
      const looking = globalThis.test.look(device, "camera", ms, lines);
      await new Promise((done) => setTimeout(done, ms - 500));
      const tracks = await globalThis.test.engine.looked_at();
      return { tracks, ...(await looking) };
    },
    device,
    lines,
    ms,
  );
}

test("each is sent a picture as large as it is shown there", { timeout: 180_000, skip: NO_BROWSER }, async () => {
  const link = stage.relay.room();
  const people = await Promise.all([person(FIRST, 440, stage.url), person(FIRST, 620, stage.url), person(LAST, 850, stage.url)]);
  const [ada, bob, cy] = people;
  try {
    await enter(ada, link, "Ada", true);
    await enter(bob, link, "Bob", false);
    await enter(cy, link, "Cy", false);
    for (const who of people) {
      await until(who, () => globalThis.test.engine.state.people.filter((person) => person.name !== "").length === 3);
    }
    await until(bob, () => globalThis.test.engine.state.people.some((person) => person.has_camera));
    const device = await of_page(ada, () => globalThis.test.engine.state.people.find((person) => person.is_me)?.device ?? "");
    const [large, small] = await Promise.all([look(bob, device, LARGE, 6000), look(cy, device, SMALL, 6000)]);
    const told = [large, small].map(({ tracks, width, height, changes }) => `${tracks.join()}: ${width}x${height}, ${changes} changes`).join(" and ");
    console.log(`of one camera, ${LARGE} and ${SMALL} lines show ${told}`);
    assert.deepEqual([large.tracks, small.tracks], [["camera vp8"], ["camera-small vp8"]]);
    // A processor that is busy with other things makes a large picture no larger than it can.
    assert.ok(large.height >= small.height && small.height === SMALL, told);
    assert.ok(large.changes > 20 && small.changes > 20, told);

    // A tile that grows gets a larger picture, and goes on showing the smaller one until then.
    const grown = await cy.page.evaluate(
      async (device, lines) => {
        const looking = globalThis.test.look(device, "camera", 6000, lines);
        await new Promise((done) => setTimeout(done, 2000));
        const before = await globalThis.test.engine.looked_at();
        document.querySelector("canvas")?.style.setProperty("height", "360px");
        await new Promise((done) => setTimeout(done, 3000));
        const after = await globalThis.test.engine.looked_at();
        return { before, after, ...(await looking) };
      },
      device,
      SMALL,
    );
    console.log(`from ${grown.before.join()} to ${grown.after.join()} of ${grown.height} lines, and still for ${Math.round(grown.still_ms)} ms at most`);
    assert.deepEqual([grown.before, grown.after], [["camera-small vp8"], ["camera vp8"]]);
    assert.ok(grown.still_ms < STILL_MS_MAX, JSON.stringify(grown));
  } finally {
    await Promise.all(people.map((who) => who.close()));
  }
});
