/** The choice to be woken, and what is said where it cannot be had. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "puppeteer-core";

import { launch, open, settle } from "./browser.ts";

let browser: Browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const BOX = "[aria-describedby=waking-hint]";
const box = (page: Page): Promise<{ on: boolean; can: boolean; said: string }> => page.$eval(BOX, (element) => {
  const input = element as HTMLInputElement;
  return { on: input.checked, can: !input.disabled, said: input.closest("section")?.querySelector("[role=status]")?.textContent ?? "" };
});
const asked = (page: Page): Promise<string[]> => page.evaluate(() => window.kit.engine.asked.splice(0).map(({ what, by }) => [what, ...by].join(" ")).filter((each) => each.includes("waking")));

test("being woken is off until somebody turns it on, with a key, and can be turned off", async () => {
  const page = await open(browser, "invite");
  assert.deepEqual(await box(page), { on: false, can: true, said: "" });
  assert.match(await page.$eval("#waking-hint", (hint) => hint.textContent), /learns when somebody rings you, not who/);
  await asked(page);
  await page.focus(BOX);
  for (const on of [true, false]) {
    await page.keyboard.press("Space");
    await settle(page);
    assert.deepEqual(await box(page), { on, can: true, said: "" });
    assert.deepEqual(await asked(page), [`set_waking ${on}`, "waking"]);
  }
  assert.deepEqual(page.problems, []);
  await page.close();
});

test("why it cannot be, and that it came to nothing, is said, and the box says what is so", async () => {
  const page = await open(browser, "invite-not-woken");
  const { on, can, said } = await box(page);
  assert.deepEqual([on, can, said], [false, false, "This page cannot be woken: it was opened from a file. Open it from the relay, if your relay serves it."]);
  await page.evaluate(() => {
    document.querySelector("dialog")?.close();
    window.kit.engine.is_woken = { can: true, on: false };
    window.kit.engine.failures.set("set_waking", { what: "This page may not show that somebody rings.", todo: "Allow it." });
  });
  await page.evaluate(() => { window.kit.scenes["invite"]?.(window.kit.engine); });
  await settle(page);
  await page.click(BOX);
  await settle(page);
  assert.deepEqual(await box(page), { on: false, can: true, said: "This page may not show that somebody rings. Allow it." });
  await page.close();
});
