/** Every scene in windows from a phone to a wall: nothing out of reach, nothing over another. And nothing jumps. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "puppeteer-core";

import { faults, LAPTOP, launch, open, PHONE, settle, show, show_afresh, WALL, type Look } from "./browser.ts";

let browser: Browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

/** The laptop's window at 200 %. */
const ZOOMED: Look = { width: 640, height: 400, scale: 2 };
const LOOKS: Readonly<Record<string, Look>> = { "a phone": PHONE, "a laptop": LAPTOP, "a wall": WALL, "a laptop at 200 %": ZOOMED };

for (const [name, look] of Object.entries(LOOKS)) {
  test(`everything is within reach on ${name}`, async () => {
    const page = await open(browser, "no-link", look);
    const scenes = await page.evaluate(() => Object.keys(window.kit.scenes));
    const found: string[] = [];
    for (const scene of scenes) {
      await show_afresh(page, scene);
      found.push(...(await faults(page)).map((fault) => `${scene}: ${fault}`));
    }
    await page.close();
    assert.deepEqual(found, []);
  });

  test(`one to fifty people fit on ${name}, with a screen and without`, async () => {
    const page = await open(browser, "six", look);
    const found: string[] = [];
    for (const count of [1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 25, 36, 49, 50]) {
      for (const screen of [false, true]) {
        await page.evaluate((number, has_screen) => {
          const { engine, people } = window.kit;
          engine.set({ people: people(number, (at) => ({ has_screen: has_screen && at === number - 1 && at > 0 })) });
        }, count, screen);
        await settle(page);
        found.push(...(await faults(page)).map((fault) => `${count}${screen ? " and a screen" : ""}: ${fault}`));
        const shown = await page.evaluate(() => {
          const more = document.querySelector<HTMLElement>(".and-more");
          return document.querySelectorAll("li.tile[data-what=camera]").length + (more === null || more.hidden ? 0 : Number(/\d+/.exec(more.textContent)?.[0]));
        });
        assert.equal(shown, count, `${count} people, and the stage tells of ${shown}`);
      }
    }
    assert.deepEqual(found, []);
    await page.close();
  });
}

test("whoever speaks is seen, however many there are", async () => {
  const page = await open(browser, "fifty", PHONE);
  for (const who of [49, 31, 20, 44]) {
    await page.evaluate((number) => {
      const { engine, people } = window.kit;
      engine.set({ people: people(50, (at) => ({ is_speaking: at === number })) });
    }, who);
    await settle(page);
    assert.equal(await page.evaluate(() => document.querySelector("li.tile[data-speaking] .name")?.textContent), `Guest ${who}`);
  }
  await page.close();
});

/** The sum of all layout shifts while `act` goes on, as the browser counts them, those after a key or a click too. */
async function shift_while(page: Page, act: () => Promise<void>): Promise<{ score: number; what: string[] }> {
  await page.evaluate(() => {
    const seen: { score: number; what: string[] } = { score: 0, what: [] };
    Object.assign(window, { seen });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as unknown as { value: number; sources: { node: Element | null; previousRect: DOMRect; currentRect: DOMRect }[] }[]) {
        seen.score += entry.value;
        for (const { node, previousRect: from, currentRect: to } of entry.sources) {
          const element = node instanceof Element ? node : (node as Node | null)?.parentElement;
          seen.what.push(`${element?.tagName ?? "?"}.${element?.getAttribute("class") ?? ""} from ${from.x},${from.y} to ${to.x},${to.y}`);
        }
      }
    }).observe({ type: "layout-shift" });
  });
  await act();
  await new Promise((done) => setTimeout(done, 400));
  await settle(page);
  return page.evaluate(() => (window as unknown as { seen: { score: number; what: string[] } }).seen);
}

for (const [name, look] of Object.entries({ "a phone": PHONE, "a laptop": LAPTOP, "a laptop in motion": { ...LAPTOP, calm: false } })) {
  for (const panel of ["", "people", "chat"]) {
    test(`nothing jumps while people come, speak and are muted on ${name}${panel === "" ? "" : `, with ${panel} open`}`, async () => {
      const page = await open(browser, "three", look);
      if (panel !== "") await page.click(`[data-panel=${panel}]`);
      // A click counts as wished for during half a second; all that follows is not.
      await new Promise((done) => setTimeout(done, 700));
      const seen = await shift_while(page, async () => {
        const steps = await page.evaluate(() => {
          const { engine, people, person, text_said } = window.kit;
          const all: (() => void)[] = [];
          for (const count of [4, 5, 6, 9, 14, 26, 50, 13, 7, 2, 3]) all.push(() => { engine.set({ people: people(count) }); });
          for (const number of [1, 2]) {
            all.push(() => { engine.set_person(number, { is_speaking: true }); });
            all.push(() => { engine.set_person(number, { is_speaking: false, has_microphone: false }); });
            all.push(() => { engine.set_person(number, { line: "poor", has_camera: false }); });
            all.push(() => { engine.set_person(number, { line: "lost", is_here: false }); });
            all.push(() => { engine.set_person(number, { line: "good", is_here: true, has_camera: true, trust: "verified" }); });
            all.push(() => { engine.set_person(number, { trust: "changed" }); });
            all.push(() => { engine.set_person(number, { has_screen: true }); });
            all.push(() => { engine.set_person(number, { has_screen: false, trust: "unknown" }); });
          }
          all.push(() => { engine.set({ mine: { microphone: "starting", camera: "off", screen: "off" } }); });
          all.push(() => { engine.set({ mine: { microphone: "off", camera: "starting", screen: "on" } }); });
          all.push(() => { engine.set({ reactions: [{ id: 1, from: person(1).device, emoji: "👏" }] }); });
          all.push(() => { engine.set({ knocking: [{ identity: "k", name: "Noah Berg", has_link: true }] }); });
          all.push(() => { engine.set({ knocking: [] }); });
          all.push(() => { engine.set({ line: "poor" }); });
          all.push(() => { engine.set({ line: "good", reactions: [] }); });
          for (let at = 0; at < 30; at++) all.push(() => { engine.set({ said: Array.from({ length: at + 1 }, (_, id) => text_said(id, person(id % 3), `line ${id}`)) }); });
          Object.assign(window, { all });
          return all.length;
        });
        for (let step = 0; step < steps; step++) {
          await page.evaluate((at) => { (window as unknown as { all: (() => void)[] }).all[at]?.(); }, step);
          await settle(page);
        }
      });
      assert.deepEqual(seen, { score: 0, what: [] });
      await page.close();
    });
  }
}

test("a jump would be seen", async () => {
  const page = await open(browser, "three");
  await new Promise((done) => setTimeout(done, 700));
  const seen = await shift_while(page, async () => {
    await page.evaluate(() => document.querySelector(".call")?.prepend(Object.assign(document.createElement("p"), { textContent: "pushes everything down" })));
  });
  assert.ok(seen.score > 0.01, String(seen.score));
  await page.close();
});

test("nothing jumps at the door while devices come and the level changes", async () => {
  for (const look of [PHONE, LAPTOP]) {
    const page = await open(browser, "door", look);
    await new Promise((done) => setTimeout(done, 700));
    const seen = await shift_while(page, async () => {
      for (const level of [0, 0.1, 0.9, 0.4]) {
        await page.evaluate((loud) => {
          const { engine, DEVICES, person } = window.kit;
          engine.set({ mine: { microphone: "on", camera: "on", screen: "off" }, devices: DEVICES, people: [person(0)] });
          engine.set_levels({ [person(0).device]: loud });
        }, level);
        await settle(page);
      }
    });
    assert.deepEqual(seen, { score: 0, what: [] }, `${look.width} wide`);
    await page.close();
  }
});

test("scenes follow each other in one page without a trace", async () => {
  const page = await open(browser, "no-link");
  const scenes = await page.evaluate(() => Object.keys(window.kit.scenes));
  for (const scene of [...scenes, "no-link"]) {
    await show(page, scene);
    await page.keyboard.press("Escape");
  }
  const left = await page.evaluate(() => ({ lent: window.kit.engine.lent.size, listeners: window.kit.engine.listeners, dialogs: document.querySelectorAll("dialog").length }));
  // One listener is the page itself.
  assert.deepEqual(left, { lent: 0, listeners: 1, dialogs: 0 });
  assert.deepEqual(page.problems, []);
  await page.close();
});
