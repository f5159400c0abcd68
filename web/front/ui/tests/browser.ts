/** One headless browser for a file of tests, and pages in it. */
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import puppeteer, { type Browser, type Page } from "puppeteer-core";

import type {} from "./stage.ts";

const CHROMIUM = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const FIREFOX = process.env["FIREFOX"] ?? "/usr/bin/firefox-esr";

export interface Look {
  readonly width: number;
  readonly height: number;
  readonly scheme?: "light" | "dark";
  readonly calm?: boolean;
  readonly scale?: number;
}

export const PHONE: Look = { width: 320, height: 568 };
export const LAPTOP: Look = { width: 1280, height: 800 };
export const WALL: Look = { width: 2560, height: 1440 };

export async function launch(which: "chrome" | "firefox" = "chrome"): Promise<Browser> {
  const executablePath = which === "chrome" ? CHROMIUM : FIREFOX;
  if (!existsSync(executablePath)) throw new Error(`${executablePath}: there is no such browser; install it, or name another in CHROMIUM or FIREFOX`);
  return puppeteer.launch({ browser: which, executablePath, headless: true, ...(which === "chrome" ? { args: ["--no-sandbox", "--force-color-profile=srgb"] } : { extraPrefsFirefox: { "ui.prefersReducedMotion": 1 } }) });
}

/** A page that shows this scene. Whatever goes wrong in it fails the test that closes it. */
export async function open(browser: Browser, scene: string, look: Look = LAPTOP): Promise<Page & { readonly problems: string[] }> {
  const page = await browser.newPage();
  const problems: string[] = [];
  page.on("pageerror", (error) => problems.push(`error: ${String(error)}`));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warn") problems.push(`${message.type()}: ${message.text()}`);
  });
  await page.setViewport({ width: look.width, height: look.height, deviceScaleFactor: look.scale ?? 1 });
  // Firefox cannot be told over WebDriver BiDi.
  if (!(await browser.version()).toLowerCase().includes("firefox")) {
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: look.scheme ?? "light" },
      { name: "prefers-reduced-motion", value: look.calm === false ? "no-preference" : "reduce" },
    ]);
  }
  const file = process.env["SCREENS_PAGE"];
  if (file === undefined) throw new Error("SCREENS_PAGE is not set: run `npm run test:screens`");
  await page.goto(pathToFileURL(file).href);
  await show(page, scene);
  return Object.assign(page, { problems });
}

export async function show(page: Page, scene: string): Promise<void> {
  await page.evaluate((name) => {
    const play = window.kit.scenes[name];
    if (play === undefined) throw new Error(`there is no scene ${name}`);
    play(window.kit.engine);
  }, scene);
  await settle(page);
}

/** The same page without anything that a scene before has left: much quicker than another page. */
export async function show_afresh(page: Page, scene: string): Promise<void> {
  await page.evaluate(() => {
    window.kit.engine.set(window.kit.FIRST);
  });
  await show(page, scene);
}

/** Until what was asked for is drawn. */
export async function settle(page: Page): Promise<void> {
  await page.evaluate(() => new Promise<void>((done) => requestAnimationFrame(() => requestAnimationFrame(() => { done(); }))));
}

/** What is wrong with where things are. */
export function faults(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const wrong: string[] = [];
    const { innerWidth: width, innerHeight: height } = window;
    const wide = document.scrollingElement?.scrollWidth ?? 0;
    if (wide > width) wrong.push(`the page is ${wide} wide in a window of ${width}`);
    const in_call = document.querySelector(".call") !== null;
    if (in_call && (document.scrollingElement?.scrollHeight ?? 0) > height) wrong.push("the call scrolls");
    const top = document.querySelector("dialog") ?? document.body;
    for (const each of top.querySelectorAll("button, input, select, textarea, summary")) {
      const box = each.getBoundingClientRect();
      if (each.getClientRects().length === 0 || each.matches(":disabled")) continue;
      const what = `${each.className} ${each.getAttribute("aria-label") ?? each.textContent}`;
      if (box.left < -0.5 || box.right > width + 0.5) wrong.push(`${what} ends beside the window: ${box.left} to ${box.right}`);
      if (each.tagName === "BUTTON" && (box.width < 24 || box.height < 24)) wrong.push(`${what} is too small to be hit: ${box.width} x ${box.height}`);
      const scrolls = each.closest(".scrolls, .panel.people, dialog, .popup.menu, .at-door, .banners, .alone") !== null;
      if (in_call && !scrolls && (box.top < -0.5 || box.bottom > height + 0.5)) wrong.push(`${what} ends above or below the window`);
    }
    const stage = document.querySelector(".stage")?.getBoundingClientRect();
    const tiles = [...document.querySelectorAll(".tile:not([hidden], [data-corner])")].map((tile) => tile.getBoundingClientRect());
    tiles.forEach((tile, at) => {
      if (stage === undefined) return;
      if (tile.left < stage.left - 1 || tile.top < stage.top - 1 || tile.right > stage.right + 1 || tile.bottom > stage.bottom + 1) wrong.push(`tile ${at} ends outside of the stage`);
      for (const other of tiles.slice(at + 1)) {
        const apart = tile.right <= other.left + 1 || other.right <= tile.left + 1 || tile.bottom <= other.top + 1 || other.bottom <= tile.top + 1;
        if (!apart) wrong.push(`tile ${at} lies over another`);
      }
    });
    return wrong;
  });
}
