/** Who calls whom: every pair of browsers, and a page with a program. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { type Kind, person } from "./stage/browsers.ts";
import { judge } from "./stage/ears.ts";
import type { TestPage } from "./stage/page.ts";
import { Native, read } from "./stage/relay.ts";
import { FIRST, HERE, NOTES, NO_BROWSER, enter, hears, of_page, open_stage, pause, sees, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

const RATE = 48_000;
const SAMPLES = join(process.cwd(), "..", "client", "samples");
const stage = open_stage();

for (const [one, other] of HERE.flatMap((one, at) => HERE.slice(at).map((other): [Kind, Kind] => [one, other]))) {
  test(`${one} and ${other} hear and see each other`, { timeout: 90_000 }, async () => {
    const link = stage.relay.room();
    const people = await Promise.all([person(one, 440, stage.url), person(other, 620, stage.url)]);
    const [ada, bob] = people;
    try {
      const started = Date.now();
      await enter(ada, link, "Ada", true);
      await enter(bob, link, "Bob", true);
      console.log(`both are in after ${Date.now() - started} ms`);
      for (const who of people) {
        await until(who, () => globalThis.test.engine.state.people.filter((person) => person.name !== "" && person.has_camera).length === 2);
      }
      const numbers = await Promise.all(people.map((who) => who.page.evaluate(() => globalThis.test.engine.state.safety_number)));
      assert.ok(numbers[0] !== undefined && numbers[0] === numbers[1], String(numbers));
      await pause(2000);
      await Promise.all([hears(ada, 620), hears(bob, 440)]);
      await Promise.all([sees(ada, "Bob"), sees(bob, "Ada")]);
    } finally {
      await Promise.all(people.map((who) => who.close()));
    }
  });
}

test("a page and a program hear and see each other", { timeout: 90_000, skip: NO_BROWSER }, async () => {
  const link = stage.relay.room();
  const ada = await person(FIRST, 440, stage.url);
  let nell: Native | undefined;
  try {
    await enter(ada, link, "Ada", true);
    const files = ["--audio", join(SAMPLES, "speech-a.opus"), "--video", join(SAMPLES, "picture-a.ivf")];
    nell = new Native(stage.relay, "nell", link, [...files, "--wait-for", "2"]);
    await until(ada, () => globalThis.test.engine.state.people.some((person) => !person.is_me && person.has_camera));
    const device = await of_page(ada, () => globalThis.test.engine.state.people.find((person) => !person.is_me)?.device ?? "");
    // The program begins to play once all that it plays is wanted.
    const looking = ada.page.evaluate(async (device) => await globalThis.test.look(device, "camera", 7000), device);
    // What fails meanwhile is told, not that nobody looks any more.
    looking.catch(() => undefined);
    const samples = await ada.page.evaluate(async () => await globalThis.test.listen(4000));
    const { rms } = judge(samples, NOTES);
    const figures = await ada.page.evaluate(async () => await globalThis.test.engine.figures());
    console.log(`the page hears the program: rms ${rms.toFixed(3)}`, JSON.stringify(figures));
    assert.ok(rms > 0.005, String(rms));
    assert.ok(figures.concealed <= 0.01 * figures.heard + 2, JSON.stringify(figures));
    const seen = await looking;
    console.log(`the page sees the program: ${seen.width}x${seen.height}, ${seen.changes} changes`);
    assert.ok(seen.changes >= 10 && seen.width > 0, JSON.stringify(seen));
    await ada.page.evaluate(async () => {
      await globalThis.test.engine.say("hello, program");
    });
    await until(ada, () => globalThis.test.engine.state.said.length === 1);
    await pause(1000);
    nell.interrupt();
    await nell.ended;
    assert.match(nell.log, /hello, program/);
    assert.doesNotMatch(nell.log, /"is":/);
    const sound = readdirSync(nell.directory).find((name) => name.endsWith("audio.opus")) ?? "";
    const picture = readdirSync(nell.directory).find((name) => name.endsWith("video.ivf")) ?? "";
    const recorded = await ada.page.evaluate(
      async (base64) => await globalThis.test.decode(base64),
      read(join(nell.directory, sound)).toString("base64"),
    );
    const heard = judge(recorded.slice(RATE / 2), NOTES);
    console.log(`the program recorded ${heard.seconds.toFixed(1)} s at ${heard.hz} Hz, gaps ${(100 * heard.gaps).toFixed(2)} %`);
    assert.equal(heard.hz, 440);
    assert.ok(heard.gaps < 0.01 && heard.seconds > 3, JSON.stringify({ gaps: heard.gaps, seconds: heard.seconds }));
    assert.ok(read(join(nell.directory, picture)).length > 20_000, "a picture was recorded");
  } finally {
    nell?.interrupt();
    await ada.close();
  }
});
