/** The same screens in Firefox: that they are there, work by keys, and fit. Chromium has the rest. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser } from "puppeteer-core";

import { faults, LAPTOP, launch, open, PHONE, settle, show_afresh } from "./browser.ts";

let browser: Browser;
before(async () => { browser = await launch("firefox"); });
after(() => browser.close());

for (const [name, look] of Object.entries({ "a laptop": LAPTOP, "a window of a phone's size": PHONE })) {
  test(`Firefox shows every scene on ${name}, within reach and without an error`, async () => {
    const page = await open(browser, "no-link", look);
    const scenes = await page.evaluate(() => Object.keys(window.kit.scenes));
    const found: string[] = [];
    for (const scene of scenes) {
      await show_afresh(page, scene);
      found.push(...[...(await faults(page)), ...page.problems.splice(0)].map((fault) => `${scene}: ${fault}`));
    }
    assert.deepEqual(found, []);
    await page.close();
  });
}

test("Firefox takes keys, dialogs and what is written", async () => {
  const page = await open(browser, "three");
  await page.keyboard.press("m");
  await page.keyboard.press("c");
  await page.keyboard.type("Hello");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  await page.keyboard.press("i");
  await settle(page);
  assert.equal(await page.$eval("dialog h2", (title) => title.textContent), "Invite people");
  await page.keyboard.press("Escape");
  await settle(page);
  assert.deepEqual(await page.evaluate(() => window.kit.engine.asked.map(({ what, by }) => [what, ...by].join(" "))), ["set_microphone false", "say Hello", "room_link", "waking"]);
  assert.equal((await page.$$("dialog")).length, 0);
  await page.close();
});
