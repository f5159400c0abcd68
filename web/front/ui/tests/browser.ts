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
  return puppeteer.launch({ browser: which, executablePath, headless: true, ...(which === "chrome" ? { args: ["--no-sandbox", "--force-color-profile=srgb"] } : {}) });
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
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: look.scheme ?? "light" },
    { name: "prefers-reduced-motion", value: look.calm === false ? "no-preference" : "reduce" },
  ]);
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
