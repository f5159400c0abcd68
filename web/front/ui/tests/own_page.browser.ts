import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import type { Browser, Page } from "puppeteer-core";

import { launch, open, show } from "./browser.ts";

const FILE = process.env["SCREENS_PAGE"] ?? "";
const OWN = createHash("sha256").update(readFileSync(FILE)).digest("hex");
const OTHER = OWN.replace(/^./, (digit) => (digit === "0" ? "1" : "0"));
let browser: Browser;

before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

/** What the dialog says when somebody compares with this. */
async function compared(page: Page, expected: string): Promise<{ is: string; verdict: string }> {
  const field = await page.$(".own-page input[type=text]");
  assert.ok(field !== null);
  await field.evaluate((input, text) => { (input).value = text; }, expected);
  await page.$eval(".own-page [role=status]", (verdict) => { verdict.textContent = ""; });
  await field.press("Enter");
  await page.waitForFunction(() => document.querySelector(".own-page [role=status]")?.textContent !== "");
  const text = (selector: string) => page.$eval(selector, (element) => element.textContent);
  return { is: await text(".own-page code"), verdict: await text(".own-page [role=status]") };
}

test("a served page compares what came from the server", async () => {
  let is_there = true;
  const server = createServer((_asked, answer) => {
    answer.writeHead(is_there ? 200 : 404, { "content-type": "text/html; charset=utf-8", "cache-control": "no-cache" });
    answer.end(is_there ? readFileSync(FILE) : "");
  });
  await new Promise<void>((good) => server.listen(0, "127.0.0.1", good));
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  const page = await browser.newPage();
  try {
    await page.goto(`http://127.0.0.1:${address.port}/#secret`);
    await show(page, "safety");
    const same = await compared(page, `${OWN}  supernode.html`);
    assert.deepEqual(same, { is: OWN, verdict: "It is the same." });
    const different = await compared(page, OTHER);
    assert.equal(different.is, OWN);
    assert.match(different.verdict, /^It is another page/);
    assert.match((await compared(page, "12 ab")).verdict, /has 64 digits/);
    assert.match((await compared(page, "")).verdict, /^Compare it with/);
    // Kept by the browser, it is still what came; another tab without it hears that there is nothing.
    is_there = false;
    await page.evaluate(() => {
      const fetch = window.fetch.bind(window);
      window.fetch = (what, how) => fetch(what, { ...how, cache: "no-store" });
    });
    assert.match((await compared(page, OWN)).verdict, /^The page could not be read again/);
  } finally {
    await page.close();
    server.close();
    server.closeAllConnections();
  }
});

test("a page on a disk compares the file that somebody chooses", async () => {
  const page = await open(browser, "safety");
  assert.match((await compared(page, OWN)).verdict, /^No file was chosen/);
  const file = await page.$(".own-page input[type=file]");
  assert.ok(file !== null);
  await (await file.toElement("input")).uploadFile(FILE);
  assert.deepEqual(await compared(page, OWN), { is: OWN, verdict: "It is the same." });
  assert.match((await compared(page, OTHER)).verdict, /^It is another page/);
  await page.close();
});
