/** Everything by keys alone, and where the focus is afterwards. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, KeyInput, Page } from "puppeteer-core";

import { launch, open, PHONE, settle, show } from "./browser.ts";

let browser: Browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

const focused = (page: Page): Promise<string> => page.evaluate(() => {
  const element = document.activeElement;
  if (element === null || element === document.body) return "nothing";
  const heard = element.cloneNode(true) as Element;
  for (const silent of heard.querySelectorAll("[aria-hidden], .only-narrow")) silent.remove();
  return (element.getAttribute("aria-label") ?? (heard.textContent || element.id)).trim();
});
const asked = (page: Page): Promise<string[]> => page.evaluate(() => window.kit.engine.asked.splice(0).map(({ what, by }) => [what, ...by].join(" ")));
const keys = async (page: Page, ...list: readonly string[]): Promise<void> => {
  for (const key of list) {
    const [last, held] = key.split("+").reverse() as [KeyInput, KeyInput | undefined];
    if (held !== undefined) await page.keyboard.down(held);
    await page.keyboard.press(last);
    if (held !== undefined) await page.keyboard.up(held);
  }
  await settle(page);
};

/** What the focus comes to, by Tab, until it has been everywhere. */
async function walk(page: Page): Promise<string[]> {
  for (let step = 0; step < 30 && (await focused(page)) !== "nothing"; step++) await keys(page, "Shift+Tab");
  const found: string[] = [];
  for (let step = 0; step < 60; step++) {
    await keys(page, "Tab");
    const where = await focused(page);
    if (where === "nothing" || (found.length > 0 && where === found[0])) break;
    found.push(where);
  }
  return found;
}

test("at the door: name, Enter, and in", async () => {
  const page = await open(browser, "door");
  assert.deepEqual(await walk(page), ["Turn on microphone and camera", "Microphone, camera and speaker", "name", "Enter", "Use another link"]);
  await page.focus("#name");
  await keys(page, "Enter");
  assert.match((await page.$eval("#name-hint", (hint) => hint.textContent)), /^You have no name yet\./);
  assert.equal(await page.$eval("#name", (field) => field.getAttribute("aria-invalid")), "true");
  assert.deepEqual(await asked(page), []);
  await page.keyboard.type("Ada");
  await keys(page, "Enter");
  assert.deepEqual(await asked(page), ["set_name A", "set_name Ad", "set_name Ada", "enter"]);
  await page.close();
});

test("turning on microphone and camera leaves the focus on the switch that is there then", async () => {
  const page = await open(browser, "door");
  await page.focus(".prepare button");
  await keys(page, "Enter");
  assert.deepEqual(await asked(page), ["prepare"]);
  assert.equal(await focused(page), "Mute");
  await page.close();
});

test("a link that cannot be read is told at the field", async () => {
  const page = await open(browser, "no-link");
  await page.focus("#link");
  await keys(page, "Enter");
  assert.match(await page.$eval("#link-trouble", (text) => text.textContent), /^There is no link yet\. Paste/);
  await page.evaluate(() => window.kit.engine.failures.set("open_link", { what: "This link is of another program.", todo: "Ask for a link of a call." }));
  await page.keyboard.type("https://example.org/");
  await keys(page, "Enter");
  assert.equal(await page.$eval("#link-trouble", (text) => text.textContent), "This link is of another program. Ask for a link of a call.");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "link");
  await page.close();
});

test("in the call Tab goes through everything in the order in which it stands", async () => {
  const page = await open(browser, "three");
  assert.deepEqual(await walk(page), [
    "Sealed end to end", "Invite people",
    "Show Ada Okafor large", "Show Jonas Lindqvist large", "Show Mei Tanaka large",
    "Mute", "Stop camera", "Share screen", "React", "Chat", "People, 3", "More", "Leave",
  ]);
  await page.close();
});

test("single keys do what the list says", async () => {
  const page = await open(browser, "three");
  await keys(page, "m");
  assert.deepEqual(await asked(page), ["set_microphone false"]);
  await keys(page, "v", "s");
  assert.deepEqual(await asked(page), ["set_camera false", "set_screen true"]);
  await keys(page, "c");
  assert.equal(await focused(page), "Message to everybody");
  await page.keyboard.type("mvs mumble?");
  assert.deepEqual(await asked(page), [], "keys are text in a field");
  await keys(page, "Enter");
  assert.deepEqual(await asked(page), ["say mvs mumble?"]);
  await keys(page, "Escape");
  assert.match(await focused(page), /^Chat/);
  await keys(page, "p");
  assert.equal(await focused(page), "People");
  await keys(page, "p");
  assert.match(await focused(page), /^People/);
  await keys(page, "?");
  assert.equal(await page.$eval("dialog h2", (title) => title.textContent), "Keyboard shortcuts");
  await keys(page, "m");
  assert.deepEqual(await asked(page), [], "no shortcuts behind a dialog");
  await keys(page, "Escape");
  assert.match(await focused(page), /^People/);
  await keys(page, "r", "ArrowRight", "Enter");
  assert.deepEqual(await asked(page), ["react 👏"]);
  assert.equal(await focused(page), "React");
  await page.close();
});

test("the space bar, held, speaks while muted, and only then", async () => {
  const page = await open(browser, "three");
  await page.keyboard.down("Space");
  await page.keyboard.up("Space");
  assert.deepEqual(await asked(page), []);
  await page.evaluate(() => window.kit.engine.set_microphone(false));
  await asked(page);
  await page.keyboard.down("Space");
  await settle(page);
  assert.deepEqual(await asked(page), ["set_microphone true"]);
  await page.keyboard.up("Space");
  await settle(page);
  assert.deepEqual(await asked(page), ["set_microphone false"]);
  await page.close();
});

test("shortcuts can be turned off, and stay off", async () => {
  const page = await open(browser, "shortcuts");
  await page.focus("dialog input");
  await keys(page, "Space", "Escape", "m");
  assert.deepEqual(await asked(page), []);
  await page.reload();
  await show(page, "three");
  await keys(page, "m");
  assert.deepEqual(await asked(page), []);
  await page.evaluate(() => { localStorage.clear(); });
  await page.close();
});

test("a dialog keeps the focus, and gives it back", async () => {
  const page = await open(browser, "three");
  await page.focus(".seal");
  await keys(page, "Enter");
  for (let step = 0; step < 8; step++) {
    await keys(page, "Tab");
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.activeElement?.closest("dialog") !== null));
  }
  await keys(page, "Escape");
  assert.ok(await page.evaluate(() => document.activeElement?.matches(".seal")));
  await page.close();
});

test("letting somebody in does not lose the focus", async () => {
  const page = await open(browser, "people");
  await page.focus(".knock .strong");
  await keys(page, "Enter");
  assert.match((await asked(page)).join(), /^admit sn-id-/);
  await page.evaluate(() => { window.kit.engine.set({ knocking: [] }); });
  assert.equal(await focused(page), "People");
  await page.close();
});

test("the menu goes by arrows and Escape", async () => {
  const page = await open(browser, "menu", PHONE);
  assert.equal(await focused(page), "Thumbs up");
  await keys(page, "End");
  assert.equal(await focused(page), "Figures");
  await keys(page, "ArrowDown");
  assert.equal(await focused(page), "Thumbs up");
  await keys(page, "Escape");
  assert.equal(await focused(page), "More");
  assert.ok(await page.$eval(".popup.menu", (menu) => menu.hasAttribute("hidden")));
  await page.close();
});

test("whoever is rung during a dialog can answer in it", async () => {
  const page = await open(browser, "safety");
  await page.evaluate(() => { window.kit.engine.set({ ringing: [{ id: 5, identity: "r", name: "Noah" }] }); });
  await settle(page);
  const accept = await page.$("dialog .banner .strong");
  assert.ok(accept !== null);
  await accept.click();
  assert.deepEqual((await asked(page)).filter((each) => each.startsWith("answer")), ["answer 5"]);
  await page.close();
});

test("n leads to the first notice, and what was closed is gone", async () => {
  const page = await open(browser, "alarms");
  await keys(page, "n");
  assert.equal(await focused(page), "Show the number");
  await keys(page, "Enter");
  assert.deepEqual(await asked(page), ["act fork"]);
  await keys(page, "Tab", "Enter");
  assert.ok(!(await page.$$eval(".banner strong", (all) => all.map((each) => each.textContent))).includes("Not everybody is in the same call."));
  await page.close();
});

test("a new phase puts the focus on its heading", async () => {
  const page = await open(browser, "door");
  for (const [scene, heading] of [["entering-relay", "On the way in"], ["three", "Harbour choir"], ["over", "You have left the call"]] as const) {
    await show(page, scene);
    assert.equal(await focused(page), heading);
  }
  await page.close();
});

test("comparing numbers: same, differ, forget", async () => {
  const page = await open(browser, "verify");
  assert.equal((await page.$$("dialog .digits li")).length, 12);
  await page.evaluate(() => { [...document.querySelectorAll<HTMLElement>("dialog button")].find((each) => each.textContent === "They differ")?.click(); });
  assert.match(await page.$eval(".advice", (text) => text.textContent), /^Then somebody may stand between you\./);
  await page.evaluate(() => { document.querySelector<HTMLElement>("dialog .acts .strong")?.click(); });
  await settle(page);
  assert.match(await page.$eval(".verified", (text) => text.textContent), /^You have compared/);
  assert.match((await asked(page)).join(), /set_verified sn-id-\S+ true/);
  await page.evaluate(() => { [...document.querySelectorAll<HTMLElement>("dialog button")].find((each) => each.textContent === "Forget that we compared")?.click(); });
  await settle(page);
  assert.match((await asked(page)).join(), /set_verified sn-id-\S+ false/);
  await page.close();
});

test("putting somebody out asks once more, with the way back first", async () => {
  const page = await open(browser, "put-out");
  assert.equal(await focused(page), "Keep in the call");
  await keys(page, "Tab", "Enter");
  assert.match((await asked(page)).join(), /^kick sn-id-/);
  await page.close();
});

test("only hosts see how to put somebody out", async () => {
  const page = await open(browser, "people");
  await page.evaluate(() => { window.kit.engine.set_person(0, { is_host: false }); });
  await settle(page);
  assert.equal(await page.$$eval(".person button[aria-label^=Put]", (all) => all.filter((each) => !each.hasAttribute("hidden")).length), 0);
  await page.close();
});

test("whatever fails is told, with what to do", async () => {
  const page = await open(browser, "three");
  await page.evaluate(() => window.kit.engine.failures.set("set_screen", { what: "The screen cannot be shared.", why: "The browser was not allowed to.", todo: "Allow it in the system's settings." }));
  await keys(page, "s");
  assert.equal(await page.$eval(".banner .told", (told) => told.textContent), "The screen cannot be shared.The browser was not allowed to. Allow it in the system's settings.");
  await page.close();
});

test("a ring is heard until it is answered or over, and a knock once", async () => {
  const page = await open(browser, "three");
  await page.evaluate(() => {
    const tones: string[] = [];
    Object.assign(window, { tones });
    // eslint-disable-next-line @typescript-eslint/unbound-method -- called with the node that it is of
    const start = OscillatorNode.prototype.start;
    OscillatorNode.prototype.start = function (this: OscillatorNode, when?: number) {
      tones.push(this.frequency.value.toFixed(0));
      start.call(this, when);
    };
  });
  const heard = (): Promise<string[]> => page.evaluate(() => (window as unknown as { tones: string[] }).tones.splice(0));
  // Whoever has touched the page may hear it.
  await page.mouse.click(5, 5);
  await page.evaluate(() => { window.kit.engine.set({ ringing: [{ id: 1, identity: "r", name: "Noah" }] }); });
  await new Promise((done) => setTimeout(done, 3200));
  assert.ok((await heard()).length >= 4);
  await page.evaluate(() => { window.kit.engine.set({ ringing: [] }); });
  await new Promise((done) => setTimeout(done, 2600));
  assert.deepEqual(await heard(), []);
  await page.evaluate(() => { window.kit.engine.set({ knocking: [{ identity: "k", name: "", has_link: true }] }); });
  await page.evaluate(() => { window.kit.engine.set({ knocking: [{ identity: "k", name: "Kim", has_link: true }] }); });
  assert.deepEqual(await heard(), ["392", "392"]);
  await page.close();
});
