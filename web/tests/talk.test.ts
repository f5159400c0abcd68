/** What people do beside hearing and seeing each other: lines, reactions, files, and putting somebody out. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { person } from "./stage/browsers.ts";
import type { TestPage } from "./stage/page.ts";
import { FIRST, LAST, NO_BROWSER, enter, of_page, open_stage, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

const stage = open_stage();

test("what is said, felt and sent comes, and nothing of it runs", { timeout: 60_000, skip: NO_BROWSER }, async () => {
  const link = stage.relay.room();
  const [ada, bob] = await Promise.all([person(FIRST, 440, stage.url), person(LAST, 620, stage.url)]);
  try {
    await enter(ada, link, "<img src=x onerror=alert(1)>\u202e", false);
    await enter(bob, link, "Bob", false);
    await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name.startsWith("<img")));
    assert.equal(await of_page(bob, () => globalThis.test.engine.state.people.find((person) => !person.is_me)?.name), "<img src=x onerror=alert(1)>");
    await ada.page.evaluate(async () => {
      const { engine } = globalThis.test;
      await engine.say("one\u0007 <b>two</b>");
      await engine.react("🎉");
      await engine.offer_file(new File([new Uint8Array(300_000).map((_, at) => at * 7)], "../a b.bin"));
    });
    await until(bob, () => globalThis.test.engine.state.reactions.some((reaction) => reaction.emoji === "🎉"), 5000);
    await until(bob, () => globalThis.test.engine.state.said.some((line) => line.what.kind === "file" && line.what.state === "here"));
    const said = await of_page(bob, () => globalThis.test.engine.state.said.map((line) => line.what));
    assert.deepEqual(said.find((what) => what.kind === "text"), { kind: "text", text: "one <b>two</b>" });
    const file = said.find((what) => what.kind === "file");
    assert.deepEqual(file, { kind: "file", name: ".._a b.bin", bytes: 300_000, done: 1, state: "here" });
    await until(ada, () => globalThis.test.engine.state.said.some((line) => line.what.kind === "file" && line.what.state === "here"));

    const bob_identity = await of_page(bob, () => globalThis.test.engine.state.me.identity);
    const numbers = await Promise.all([
      ada.page.evaluate(async (who) => await globalThis.test.engine.person_number(who), bob_identity),
      bob.page.evaluate(async () => await globalThis.test.engine.person_number(globalThis.test.engine.state.people.find((person) => !person.is_me)?.identity ?? "")),
    ]);
    assert.equal(numbers[0], numbers[1]);
    await ada.page.evaluate(async (who) => {
      await globalThis.test.engine.kick(who);
    }, bob_identity);
    await until(bob, () => globalThis.test.engine.state.phase.kind === "over");
    const phase = await of_page(bob, () => globalThis.test.engine.state.phase);
    assert.ok(phase.kind === "over" && !phase.may_come_back, JSON.stringify(phase));
    await until(ada, () => globalThis.test.engine.state.people.length === 1);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
  }
});
