/** What axe-core finds in every scene, light and dark, wide and narrow: nothing. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import axe, { type AxeResults } from "axe-core";
import type { Browser } from "puppeteer-core";

import { LAPTOP, launch, open, PHONE, show, show_afresh, type Look } from "./browser.ts";

let browser: Browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const LOOKS: Readonly<Record<string, Look>> = { "light, wide": LAPTOP, "dark, wide": { ...LAPTOP, scheme: "dark" }, "light, narrow": PHONE, "dark, narrow": { ...PHONE, scheme: "dark" } };

for (const [name, look] of Object.entries(LOOKS)) {
  test(`axe finds nothing: ${name}`, async () => {
    const page = await open(browser, "no-link", look);
    await page.evaluate(axe.source);
    const scenes = await page.evaluate(() => Object.keys(window.kit.scenes));
    const found: string[] = [];
    for (const scene of scenes) {
      await show_afresh(page, scene);
      const results = await page.evaluate(() => (window as unknown as { axe: { run: (where: Document, options: object) => Promise<AxeResults> } }).axe.run(document, { resultTypes: ["violations"] }));
      for (const { id, nodes } of results.violations) found.push(`${scene}: ${id}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
      found.push(...page.problems.splice(0).map((problem) => `${scene}: ${problem}`));
    }
    await page.close();
    assert.deepEqual(found, []);
  });
}

test("axe does find what is wrong: a button without a name", async () => {
  const page = await open(browser, "six");
  await page.evaluate(axe.source);
  const violations = await page.evaluate(async () => {
    document.querySelector(".leave")?.replaceChildren();
    document.querySelector(".leave")?.removeAttribute("title");
    const results = await (window as unknown as { axe: { run: (where: Document) => Promise<AxeResults> } }).axe.run(document);
    return results.violations.map(({ id }) => id);
  });
  assert.ok(violations.includes("button-name"), violations.join());
  await page.close();
});

test("every phase has a heading, a title and one main part", async () => {
  const page = await open(browser, "no-link");
  for (const scene of ["no-link", "door", "entering-knocking", "six", "over"]) {
    await show(page, scene);
    const [headings, mains, title, language] = await page.evaluate(() => [document.querySelectorAll("h1").length, document.querySelectorAll("main").length, document.title, document.documentElement.lang]);
    assert.deepEqual([headings, mains, language], [1, 1, "en"], scene);
    assert.notEqual(title, "", scene);
  }
  await page.close();
});
