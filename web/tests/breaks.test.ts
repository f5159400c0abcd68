/** What breaks in a call, and how soon it goes on. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { person } from "./stage/browsers.ts";
import type { TestPage } from "./stage/page.ts";
import { Relay } from "./stage/relay.ts";
import { FIRST, LAST, NO_BROWSER, enter, hears, of_page, pause, serve_page, stop, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

let served: Awaited<ReturnType<typeof serve_page>>;

before(async () => {
  served = await serve_page();
});

after(() => {
  stop(served.server);
});

test("a call goes on after a reload and after the relay died", { timeout: 240_000, skip: NO_BROWSER }, async () => {
  const own = await Relay.open();
  const link = own.room();
  const [ada, bob] = await Promise.all([person(FIRST, 440, served.url), person(LAST, 620, served.url)]);
  try {
    await enter(ada, link, "Ada", false);
    await enter(bob, link, "Bob", false);
    await until(ada, () => globalThis.test.engine.state.people.filter((person) => person.is_here).length === 2);
    const before = await of_page(bob, () => globalThis.test.engine.state.me.identity);
    const reloaded = Date.now();
    await bob.page.reload();
    await bob.page.evaluate(async (link) => {
      await globalThis.test.engine.open_link(link);
    }, link);
    await until(bob, () => globalThis.test.engine.state.phase.kind === "in");
    console.log(`in again ${Date.now() - reloaded} ms after a reload began`);
    assert.equal(await of_page(bob, () => globalThis.test.engine.state.me.identity), before);
    await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name === "Ada" && person.is_here));
    await pause(1500);
    await hears(ada, 620);

    own.kill();
    await until(ada, () => globalThis.test.engine.state.line === "lost", 15_000);
    await own.start();
    for (const who of [ada, bob]) {
      await until(who, () => globalThis.test.engine.state.line === "good" && globalThis.test.engine.state.people.filter((person) => person.is_here).length === 2, 60_000);
    }
    await pause(3000);
    await hears(bob, 440);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    own.close();
  }
});
