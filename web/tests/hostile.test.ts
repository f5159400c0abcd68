/** A member who means harm: nothing of what they send runs, and nothing of the others' call hangs. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Walker } from "./page_walker.ts";
import { AMPLITUDE, person, serve } from "./stage/browsers.ts";
import { notes_in } from "./stage/ears.ts";
import type { AttackPage } from "./stage/attacker.ts";
import type { TestPage } from "./stage/page.ts";
import { Relay } from "./stage/relay.ts";
import { HERE, LAST, enter, of_page, pause, serve_page, stop, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage; attack: AttackPage; ran?: unknown };

/** A page that cannot answer for so long hangs. */
const ANSWERS_WITHIN_MS = 3000;
/** Of the chat some hundred lines are shown at a time, and what is sent here is some hundreds. */
const EARLIER_MAX = 10;

let relay: Relay;
let engine: Awaited<ReturnType<typeof serve_page>>;
let whole: Awaited<ReturnType<typeof serve>>;
let hostile: Awaited<ReturnType<typeof serve>>;

before(async () => {
  const made = (name: string) => readFileSync(join(process.cwd(), "dist", "browsers", name), "utf8");
  relay = await Relay.open();
  engine = await serve_page();
  whole = await serve(made("supernode.html"));
  hostile = await serve(made("attacker.html"));
});

after(() => {
  relay.close();
  [engine, whole, hostile].forEach(({ server }) => {
    stop(server);
  });
});

test("nothing that a member sends runs, and nobody's page hangs of it", { timeout: 240_000, skip: !HERE.includes("chromium") }, async () => {
  const link = relay.room();
  const ada = await person("chromium", 440, engine.url);
  const cy = await person(LAST, 620, engine.url);
  const bob = await Walker.open("chromium", "Bob", 850, `${whole.url}#${link}`);
  const mallory = await person("chromium", 1130, hostile.url);
  try {
    await enter(ada, link, "Ada", false);
    await enter(cy, link, "Cy", false);
    await bob.type("#name", "Bob");
    await bob.press("Enter");
    await until(ada, () => globalThis.test.engine.state.people.filter((person) => person.name !== "").length === 3);
    await mallory.page.evaluate(async (link) => {
      await globalThis.attack.enter(link);
    }, link);
    let slowest = 0;
    let is_over = false;
    const watch = async () => {
      while (!is_over) {
        for (const page of [bob.who.page, ada.page, cy.page]) {
          const asked = Date.now();
          await page.evaluate(async () => {
            await new Promise((done) => setTimeout(done, 0));
          });
          slowest = Math.max(slowest, Date.now() - asked);
        }
        await pause(100);
      }
    };
    const watching = watch();
    const tried = await mallory.page.evaluate(async () => await globalThis.attack.everything());
    is_over = true;
    await watching;
    console.log(tried.join("; "));
    console.log(`the slowest answer of a page under it took ${slowest} ms`);
    assert.ok(tried.every((way) => !way.endsWith("no track")), tried.join("; "));
    assert.ok(slowest < ANSWERS_WITHIN_MS, `${slowest} ms`);

    // Nothing ran, wherever it is shown.
    for (const panel of ["Chat", "People"]) {
      await bob.press(panel);
      await pause(300);
    }
    const found = await bob.who.page.evaluate(() => ({
      ran: globalThis.ran,
      scripts: document.querySelectorAll("body script, iframe, img, object, embed, [onerror], [onload]").length,
      longest: Math.max(...[...document.querySelectorAll("li.tile")].map((tile) => tile.textContent.length)),
    }));
    console.log(JSON.stringify(found));
    // The page's own script is the only one, and what they wrote is there to be read.
    assert.ok(found.ran === undefined && found.scripts === 1 && found.longest < 200, JSON.stringify(found));
    await bob.press("Chat");
    // Behind all that came after it.
    const is_shown = async () => (await bob.text("body")).includes("<script>window.ran=1</script>");
    for (let tries = 0; tries < EARLIER_MAX && !(await is_shown()); tries++) {
      await bob.press("Show earlier ones");
    }
    await bob.sees("<script>window.ran=1</script>");
    assert.deepEqual(await bob.complaints(), []);
    // If something ran, it could tell nobody.
    const elsewhere = await bob.who.page.evaluate(async (url) => await fetch(url, { mode: "no-cors" }).then(() => "went", () => "refused"), hostile.url);
    assert.equal(elsewhere, "refused");
    const people = await of_page(cy, () => globalThis.test.engine.state.people.map(({ name }) => name));
    assert.ok(people.every((name) => Array.from(name).length <= 64), people.join());
    assert.ok(people.includes("Ada") && people.includes("Bob"), people.join());

    // And the call is as it was.
    await mallory.close();
    await until(cy, () => globalThis.test.engine.state.people.filter((person) => person.is_here).length === 3, 60_000);
    const samples = await cy.page.evaluate(async () => await globalThis.test.listen(3000));
    assert.deepEqual(notes_in(samples, [440, 620, 850, 1130], AMPLITUDE / 8), [440]);
    await ada.page.evaluate(async () => {
      await globalThis.test.engine.say("still here");
    });
    await bob.sees("still here");
    const figures = await of_page(cy, () => globalThis.test.engine.figures());
    console.log(JSON.stringify(figures));
    assert.ok((figures.memory_bytes ?? 0) < 64 * 1024 * 1024, JSON.stringify(figures));
  } finally {
    await Promise.all([ada.close(), cy.close(), bob.close(), mallory.close().catch(() => undefined)]);
  }
});
