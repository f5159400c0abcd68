/** Whatever others send is text, however it is made, and never so much that the page hangs. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser } from "puppeteer-core";

import { launch, open, PHONE, settle, show } from "./browser.ts";

let browser: Browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const SCRIPTS = [
  "<script>window.ran = 1</script>",
  "<img src=x onerror='window.ran = 1'>",
  "<svg onload=window.ran=1>",
  "\"><iframe srcdoc='<script>parent.ran=1</script>'>",
  "javascript:window.ran=1",
  "{{constructor.constructor('window.ran=1')()}}",
  "${window.ran=1}",
];

test("nothing of what others send runs, wherever it is shown", async () => {
  for (const script of SCRIPTS) {
    const page = await open(browser, "people");
    await page.evaluate((text) => {
      const { engine, people, text_said, person } = window.kit;
      const evil = person(1, { name: text, identity: text, has_screen: true, trust: "changed" });
      const file = { ...text_said(2, evil, ""), what: { kind: "file", name: text, bytes: 10, done: 1, state: "here" } } as const;
      engine.set({
        people: [...people(1), evil],
        room_name: text,
        said: [text_said(1, evil, text), file],
        knocking: [{ identity: `${text} k`, name: text, has_link: true }],
        ringing: [{ id: 1, identity: text, name: text, room: text }],
        reactions: [{ id: 1, from: evil.device, emoji: text }],
        notices: [{ key: text, level: "alarm", trouble: { what: text, why: text, todo: text }, action: { name: text, label: text } }],
        devices: { microphones: [{ id: text, label: text }], cameras: [], speakers: [] },
        safety_number: text,
      });
    }, script);
    for (const selector of ["[data-panel=chat]", "[data-panel=people]", ".person:nth-child(2) button"]) {
      await page.click(selector);
      await settle(page);
    }
    await page.keyboard.press("Escape");
    await show(page, "door");
    await page.evaluate((text) => {
      const { engine } = window.kit;
      engine.set({ phase: { kind: "door", link: { relay: text, leads_to: "person", person: text } }, me: { identity: text, name: text, fingerprint: text } });
      engine.set({ phase: { kind: "over", may_come_back: true, why: { what: text, why: text, todo: text } } });
      engine.set({ phase: { kind: "no-link", why: { what: text, why: text, todo: text } } });
    }, script);
    await settle(page);
    const found = await page.evaluate(() => ({ ran: "ran" in window, scripts: document.querySelectorAll("body script").length, foreign: document.querySelectorAll("iframe, img, object, embed, body [src], [onerror], [onload], a[href]").length }));
    assert.deepEqual(found, { ran: false, scripts: 1, foreign: 0 }, script);
    assert.deepEqual(page.problems, [], script);
    await page.close();
  }
});

test("the page's policy stands in the way of what would run all the same", async () => {
  const page = await open(browser, "three");
  const found = await page.evaluate(async () => {
    const refused: string[] = [];
    document.addEventListener("securitypolicyviolation", ({ violatedDirective }) => { refused.push(violatedDirective); });
    const script = document.createElement("script");
    script.textContent = "window.ran = 1";
    document.body.append(script);
    const image = document.createElement("img");
    image.src = "https://elsewhere.example/x.png";
    document.body.append(image);
    document.body.setAttribute("style", "color: red");
    await new Promise((done) => setTimeout(done, 200));
    return { ran: "ran" in window, refused: [...new Set(refused)].sort() };
  });
  assert.deepEqual(found, { ran: false, refused: ["img-src", "script-src-elem", "style-src-attr"] });
  await page.close();
});

const NAMES = {
  "from right to left": "\u202eمحمد بن عبد الله\u202c",
  "that turns what follows": "Ada \u202e\u2066\u202b",
  "without an end": "W".repeat(5000),
  "a tower": `Z${"\u0335\u0301\u0302".repeat(300)}`,
  "of spaces": "\u00a0".repeat(60),
  "of emoji": "👩‍👩‍👧‍👦".repeat(20),
  "of lines": "a\nb\nc\nd\ne",
};

test("no name breaks what stands around it", async () => {
  for (const look of [PHONE, { width: 1280, height: 800 }]) {
    for (const [what, name] of Object.entries(NAMES)) {
      const page = await open(browser, "people", look);
      const before = await page.$$eval(".person", (rows) => rows.map((row) => row.getBoundingClientRect().height));
      await page.evaluate((text) => {
        const { engine, text_said, person } = window.kit;
        engine.set({ people: engine.state.people.map((each) => ({ ...each, name: text })), room_name: text, knocking: [{ identity: "k1", name: text, has_link: true }], ringing: [{ id: 1, identity: "r", name: text, room: text }] });
        engine.set({ said: [text_said(1, person(1, { name: text }), text)] });
      }, name);
      await settle(page);
      const found = await page.evaluate(() => ({
        wide: document.scrollingElement?.scrollWidth,
        names: [...document.querySelectorAll("li.tile .plate")].every((plate) => {
          const tile = plate.parentElement?.getBoundingClientRect();
          const box = plate.getBoundingClientRect();
          return tile !== undefined && box.right <= tile.right && box.left >= tile.left && box.bottom <= tile.bottom;
        }),
        isolated: [...document.querySelectorAll(".name")].every((each) => each.tagName === "BDI"),
        // A name from right to left stands behind its icon all the same.
        order: [...document.querySelectorAll("li.tile .plate")].every((plate) => (plate.querySelector("svg")?.getBoundingClientRect().left ?? 0) < (plate.querySelector(".name")?.getBoundingClientRect().left ?? 1)),
        title: document.title,
      }));
      assert.deepEqual({ ...found, title: "" }, { wide: look.width, names: true, isolated: true, order: true, title: "" }, `a name ${what}`);
      assert.doesNotMatch(found.title, /[\u202a-\u202e\u2066\u2067]/u, `a name ${what}`);
      assert.ok(found.title.length < 400, `a name ${what}`);
      const rows = await page.$$eval(".person:not(.knock)", (all) => all.map((row) => row.getBoundingClientRect().height));
      assert.ok(rows.every((height) => Math.abs(height - (before[0] ?? 0)) < 1), `a name ${what}: rows of ${rows.join()}`);
      await page.close();
    }
  }
});

test("ten thousand lines of chat are a bounded part of the page, and every one can be come to", async () => {
  const page = await open(browser, "chat");
  const took = await page.evaluate(() => {
    const { engine, text_said, person } = window.kit;
    const said = Array.from({ length: 10_000 }, (_, id) => text_said(id, person(id % 5), `line ${id}`));
    const from = performance.now();
    engine.set({ said });
    // One more at a time, as a flood would come.
    for (let more = 0; more < 100; more++) engine.set({ said: [...said, ...Array.from({ length: more + 1 }, (_, at) => text_said(10_000 + at, person(1), `more ${at}`))] });
    return performance.now() - from;
  });
  await settle(page);
  const lines = (): Promise<string[]> => page.$$eval(".line .text", (all) => all.map(({ textContent }) => textContent));
  assert.equal((await lines()).length, 200);
  assert.equal((await lines()).at(-1), "more 99");
  // Each of the hundred would have a frame of its own.
  assert.ok(took < 10_000, `${took} ms`);
  for (let step = 0; step < 120; step++) {
    const earlier = await page.evaluate(() => {
      const first = document.querySelector<HTMLElement>(".log > button");
      if (first === null || first.hidden) return false;
      first.click();
      return true;
    });
    if (!earlier) break;
  }
  assert.equal((await lines())[0], "line 0");
  assert.equal((await lines()).length, 200);
  await page.click(".newest");
  await settle(page);
  assert.equal((await lines()).at(-1), "more 99");
  await page.close();
});

test("what is being read stays where it is while more comes, and what is new is counted", async () => {
  const page = await open(browser, "chat");
  await page.evaluate(() => {
    const { engine, text_said, person } = window.kit;
    engine.set({ said: Array.from({ length: 150 }, (_, id) => text_said(id, person(id % 5), `line ${id}`)) });
  });
  await settle(page);
  await page.$eval(".log", (log) => { log.scrollTop = 300; });
  await settle(page);
  await page.evaluate(() => {
    const { engine, text_said, person } = window.kit;
    engine.set({ said: [...engine.state.said, text_said(200, person(1), "new"), text_said(201, person(0), "ours")] });
  });
  await settle(page);
  assert.equal(await page.$eval(".log", (log) => log.scrollTop), 300);
  assert.equal(await page.$eval(".newest", (button) => button.textContent), "1 new message below");
  await page.close();
});

test("a megabyte in one line is shown in part", async () => {
  const page = await open(browser, "chat");
  await page.evaluate(() => {
    const { engine, text_said, person } = window.kit;
    engine.set({ said: [text_said(1, person(1), "x".repeat(1_000_000)), text_said(2, person(1), "\n".repeat(900_000))] });
  });
  await settle(page);
  assert.match(await page.$eval(".line .text", (text) => text.textContent), /^x{4000}… \(996000 characters more, not shown\)$/);
  assert.equal(await page.evaluate(() => document.scrollingElement?.scrollWidth), 1280);
  await page.close();
});

test("unread lines are counted while the chat is closed, ours left out, and read when it is opened", async () => {
  const page = await open(browser, "three");
  await page.evaluate(() => {
    const { engine, text_said, person } = window.kit;
    engine.set({ said: [text_said(1, person(1), "one"), text_said(2, person(0), "ours"), text_said(3, person(2), "two")] });
  });
  await settle(page);
  assert.equal(await page.$eval("[data-panel=chat] .badge", (badge) => badge.textContent), "2");
  assert.equal(await page.title(), "(2) Harbour choir (3)");
  await page.click("[data-panel=chat]");
  await settle(page);
  assert.ok(await page.$eval("[data-panel=chat] .badge", (badge) => badge.hasAttribute("hidden")));
  await page.close();
});

test("two who say that they are the same device are one tile, and nothing breaks", async () => {
  const page = await open(browser, "people");
  await page.evaluate(() => {
    const { engine, people, person } = window.kit;
    engine.set({ people: [...people(3), person(2, { name: "Twice" })], notices: [{ key: "a", level: "info", trouble: { what: "One." } }, { key: "a", level: "info", trouble: { what: "Two." } }] });
  });
  await settle(page);
  assert.equal((await page.$$("li.tile")).length, 3);
  assert.deepEqual(page.problems, []);
  await page.close();
});
