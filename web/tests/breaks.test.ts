/** What breaks in a call, and how long nobody hears anything of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { type Person, person } from "./stage/browsers.ts";
import { change_soon } from "./stage/certificates.ts";
import type { TestPage } from "./stage/page.ts";
import { Path } from "./stage/path.ts";
import { Relay } from "./stage/relay.ts";
import { FIRST, HERE, LAST, NO_BROWSER, enter, hears, of_page, pause, serve_page, stop, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

/** So long a tab stays in the background; five minutes in the long run. */
const HIDDEN_MS = Number(process.env["SUPERNODE_HIDDEN_SECONDS"] ?? 12) * 1000;
const NARROW = 150_000;
/** Two browsers are in a call by then. */
const UNTIL_NEXT_S = 30;

let served: Awaited<ReturnType<typeof serve_page>>;

before(async () => {
  served = await serve_page();
});

after(() => {
  stop(served.server);
});

/** Ada and Bob in the room of this link. */
async function two(link: string, camera = false): Promise<[Person, Person]> {
  const people = await Promise.all([person(FIRST, 440, served.url), person(LAST, 620, served.url)]);
  const [ada, bob] = people;
  await enter(ada, link, "Ada", camera);
  await enter(bob, link, "Bob", camera);
  for (const who of people) {
    await until(who, () => globalThis.test.engine.state.people.filter((person) => person.is_here && person.has_microphone).length === 2);
  }
  await pause(2000);
  return people;
}

/** What nobody heard while this was done, in milliseconds, at each of these. */
async function silence_of(people: readonly Person[], what: string, doing: () => Promise<void>): Promise<number[]> {
  for (const who of people) {
    await of_page(who, () => globalThis.test.watch_silence());
  }
  await doing();
  const heard = await Promise.all(people.map((who) => of_page(who, () => globalThis.test.silence())));
  const silences = heard.map(({ longest_ms }) => Math.round(longest_ms));
  const seconds = heard.map(({ seconds }) => seconds.toFixed(0)).join(" and ");
  console.log(`${what}: nothing was heard for ${silences.join(" and ")} ms (${people.map((who) => who.kind).join(" and ")}), of ${seconds} s`);
  return silences;
}

/** The relay is killed and started again, and both are in the call as before. */
async function die_and_come_back(relay: Relay, both: readonly [Person, Person]): Promise<void> {
  relay.kill();
  await until(both[0], () => globalThis.test.engine.state.line === "lost", 15_000);
  await relay.start();
  for (const who of both) {
    const is_back = () =>
      globalThis.test.engine.state.line === "good" && globalThis.test.engine.state.people.filter((person) => person.is_here).length === 2;
    await until(who, is_back, 60_000);
  }
  await pause(3000);
}

test("a call goes on after a reload and after the relay died", { timeout: 240_000, skip: NO_BROWSER }, async () => {
  const relay = await Relay.open();
  const link = relay.room();
  const [ada, bob] = await two(link);
  try {
    const before = await of_page(bob, () => globalThis.test.engine.state.me.identity);
    const [reload = Infinity] = await silence_of([ada], "after a reload", async () => {
      const began = Date.now();
      await bob.page.reload();
      await bob.page.evaluate(async (link) => {
        await globalThis.test.engine.open_link(link);
      }, link);
      await until(bob, () => globalThis.test.engine.state.phase.kind === "in");
      console.log(`in again ${Date.now() - began} ms after a reload began`);
      assert.equal(await of_page(bob, () => globalThis.test.engine.state.me.identity), before);
      await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name === "Ada" && person.is_here));
      await until(ada, () => globalThis.test.engine.state.people.filter((person) => person.name === "Bob" && person.is_here).length === 1);
      await pause(1500);
    });
    assert.ok(reload < 6000, String(reload));
    await hears(ada, 620);

    await silence_of([ada, bob], "after the relay was killed and is back", async () => {
      await die_and_come_back(relay, [ada, bob]);
    });
    await hears(bob, 440);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    relay.close();
  }
});

test("a call goes on while the relay is upgraded", { timeout: 120_000, skip: NO_BROWSER }, async () => {
  const relay = await Relay.open();
  const [ada, bob] = await two(relay.room());
  try {
    const silences = await silence_of([ada, bob], "while the relay was upgraded", async () => {
      await relay.upgrade();
      await pause(5000);
    });
    assert.ok(Math.max(...silences) < 3000, String(silences));
    await Promise.all([hears(ada, 620), hears(bob, 440)]);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    relay.close();
  }
});

test("a call goes on while the relay's certificate changes, and pages come back by the next one", { timeout: 240_000, skip: NO_BROWSER }, async () => {
  const relay = await Relay.open();
  relay.kill();
  change_soon(join(relay.directory, "state"), UNTIL_NEXT_S);
  await relay.start();
  const shown = async () => ((await (await fetch(relay.told)).json()) as { certificates: string[][] }).certificates.map(([own]) => own);
  const [first, next] = await shown();
  const link = relay.room();
  const [ada, bob] = await two(link);
  try {
    assert.equal((await shown())[0], first, "both are in by the one that was shown first");
    const changed = await silence_of([ada, bob], "while the certificate changed", async () => {
      while ((await shown())[0] === first) {
        await pause(250);
      }
      // The relay's shards look for what has changed once a second.
      await pause(2500);
    });
    assert.equal((await shown())[0], next);
    assert.ok(Math.max(...changed) < 500, String(changed));

    // Another page of a browser that is still connected by the certificate before: NSS remembers that one as long.
    const tab = await bob.page.browser().newPage();
    await tab.goto(served.url);
    await enter({ ...bob, page: tab }, link, "Bob too", false);
    await tab.close();

    // By what they were told before.
    await silence_of([ada, bob], "after the relay was killed and is back with its next certificate", async () => {
      await die_and_come_back(relay, [ada, bob]);
    });
    // And by what they are told now, in a browser that remembers the one before.
    const reload = await silence_of([ada], "after a reload by the next certificate", async () => {
      await bob.page.reload();
      await bob.page.evaluate(async (link) => {
        await globalThis.test.engine.open_link(link);
      }, link);
      await until(ada, () => globalThis.test.engine.state.people.filter((person) => person.name === "Bob" && person.is_here).length === 1);
      await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name === "Ada" && person.is_here));
      await pause(1500);
    });
    assert.ok(Math.max(...reload) < 6000, String(reload));
    await Promise.all([hears(ada, 620), hears(bob, 440)]);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    relay.close();
  }
});

test("a call goes on when the network is another, and on a narrow path", { timeout: 180_000, skip: NO_BROWSER }, async () => {
  const relay = await Relay.open();
  const { path, link } = await Path.to(relay.room());
  const [ada, bob] = await two(link, true);
  try {
    const [device_of_bob, device_of_ada] = await Promise.all(
      [ada, bob].map((who) => of_page(who, () => globalThis.test.engine.state.people.find((person) => !person.is_me)?.device ?? "")),
    );
    const looking = Promise.all([
      ada.page.evaluate(async (device) => await globalThis.test.look(device ?? "", "camera", 32_000), device_of_bob),
      bob.page.evaluate(async (device) => await globalThis.test.look(device ?? "", "camera", 32_000), device_of_ada),
    ]);
    looking.catch(() => undefined);
    await pause(3000);
    const rebound = await silence_of([ada, bob], "when every address changed", async () => {
      path.rebind();
      await pause(3000);
    });
    assert.ok(Math.max(...rebound) < 3000, String(rebound));

    const first = await silence_of([ada, bob], `in the first seconds of a path of ${NARROW / 1000} kbit/s`, async () => {
      path.squeeze(NARROW);
      await pause(9000);
    });
    assert.ok(Math.max(...first) < 5000, String(first));
    // By now the pictures are as small as they have to be.
    const narrow = await silence_of([ada, bob], "after that", async () => {
      await pause(5000);
    });
    console.log(`${path.dropped} packets were dropped`, await Promise.all([ada, bob].map(async (who) => JSON.stringify(await of_page(who, () => globalThis.test.engine.figures())))));
    assert.ok(Math.max(...narrow) < 1000, String(narrow));
    path.squeeze();
    await pause(3000);
    await Promise.all([hears(ada, 620), hears(bob, 440)]);
    const seen = await looking;
    console.log(`pictures changed ${seen.map(({ changes }) => changes).join(" and ")} times in 32 s`);
    assert.ok(seen.every(({ changes }) => changes > 100), JSON.stringify(seen));
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    path.close();
    relay.close();
  }
});

test("a call goes on in a tab that nobody sees", { timeout: HIDDEN_MS + 120_000, skip: !HERE.includes("chromium") }, async () => {
  const relay = await Relay.open();
  const link = relay.room();
  const [ada, bob] = await Promise.all([person("chromium", 440, served.url), person(LAST, 620, served.url)]);
  try {
    await enter(ada, link, "Ada", true);
    await enter(bob, link, "Bob", false);
    await until(bob, () => globalThis.test.engine.state.people.filter((person) => person.has_camera && !person.is_me).length === 1);
    await pause(2000);
    const front = await ada.page.browser().newPage();
    await front.bringToFront();
    await until(ada, () => document.hidden);
    const device = await of_page(bob, () => globalThis.test.engine.state.people.find((person) => !person.is_me)?.device ?? "");
    const silences = await silence_of([ada, bob], `${HIDDEN_MS / 1000} s in the background`, async () => {
      await pause(HIDDEN_MS - 5000);
      const seen = await bob.page.evaluate(async (device) => await globalThis.test.look(device, "camera", 5000), device);
      console.log(`of whom nobody sees, others see ${seen.changes} changes in 5 s`);
      assert.ok(seen.changes > 20, JSON.stringify(seen));
    });
    assert.ok(Math.max(...silences) < 500, String(silences));
    await hears(bob, 440);
    await front.close();
    await hears(ada, 620);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    relay.close();
  }
});
