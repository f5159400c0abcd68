/** How soon the whole page is to be seen, and how soon one is in a call by it, with nothing in the browser's cache. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { person, serve } from "./stage/browsers.ts";
import { Relay } from "./stage/relay.ts";
import { FIRST, HERE, enter, serve_page, stop } from "./stage/room.ts";

const PAINTED_MS_MAX = 1000;
const IN_CALL_MS_MAX = 3000;

let relay: Relay;
let engine: Awaited<ReturnType<typeof serve_page>>;
let whole: Awaited<ReturnType<typeof serve>>;

before(async () => {
  relay = await Relay.open();
  engine = await serve_page();
  whole = await serve(readFileSync(join(process.cwd(), "dist", "browsers", "supernode.html"), "utf8"));
});

after(() => {
  relay.close();
  stop(engine.server);
  stop(whole.server);
});

for (const kind of HERE) {
  test(`the page is seen within a second in ${kind}, and its call within three`, { timeout: 120_000 }, async () => {
    const link = relay.room();
    const ada = await person(FIRST, 440, engine.url);
    const bob = await person(kind, 620, "about:blank");
    try {
      await enter(ada, link, "Ada", false);
      await bob.page.goto(`${whole.url}#${link}`);
      // As somebody would, who needed no time: types a name and presses what is there.
      const { painted_ms, door_ms, in_ms } = await bob.page.evaluate(async () => {
        const frame = () => new Promise((drawn) => requestAnimationFrame(drawn));
        const button = () => [...document.querySelectorAll("button")].find((each) => each.innerText.trim() === "Enter" && !each.disabled);
        let name = document.querySelector<HTMLInputElement>("#name");
        while (name === null || button() === undefined) {
          await frame();
          name = document.querySelector<HTMLInputElement>("#name");
        }
        const door_ms = performance.now();
        name.value = "Bob";
        name.dispatchEvent(new Event("input", { bubbles: true }));
        while (document.querySelectorAll("li.tile").length < 2) {
          button()?.click();
          await frame();
        }
        const painted_ms = performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity;
        return { painted_ms, door_ms, in_ms: performance.now() };
      });
      const said = `${kind} shows something after ${Math.round(painted_ms)} ms, the door after ${Math.round(door_ms)} ms, and the call after ${Math.round(in_ms)} ms`;
      console.log(said);
      assert.ok(painted_ms < PAINTED_MS_MAX && in_ms < IN_CALL_MS_MAX, said);
    } finally {
      await Promise.all([ada.close(), bob.close()]);
    }
  });
}
