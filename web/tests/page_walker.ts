/** Somebody in front of the whole page: presses what is to be seen, and knows nothing but what it shows. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import type { ElementHandle } from "puppeteer-core";

import { person, type Kind, type Person } from "./stage/browsers.ts";
import { judge, type Heard } from "./stage/ears.ts";

/** On a busy machine. */
const PATIENCE_MS = 15_000;
const NOTES = [440, 620, 850];

interface Ears {
  heard?: () => number[];
  /** Of microphones, cameras and screens that the page has taken. */
  taken: MediaStreamTrack[];
  violations: string[];
}
declare const globalThis: Ears & typeof window;

/** Before the page's own script: ears at whatever goes to the loudspeaker, and an eye on the page's policy. */
function put_ears_on(): void {
  globalThis.violations = [];
  globalThis.taken = [];
  addEventListener("securitypolicyviolation", (event) => {
    globalThis.violations.push(`${event.effectiveDirective} ${event.blockedURI}`);
  });
  // A browser takes a steady note for noise, and takes it away: that is not what is tested here.
  const devices = (navigator as Partial<Navigator>).mediaDevices;
  if (devices !== undefined) {
    const get_user_media = devices.getUserMedia.bind(devices);
    devices.getUserMedia = async (asked) => {
      const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      const audio = typeof asked?.audio === "object" ? { ...asked.audio, ...untouched } : asked?.audio;
      const stream = await get_user_media({ ...asked, ...(audio === undefined ? {} : { audio }) });
      globalThis.taken.push(...stream.getTracks());
      return stream;
    };
  }
  const connect = Reflect.get(AudioNode.prototype, "connect") as (...to: unknown[]) => unknown;
  let analyser: AnalyserNode | undefined;
  const tapped = function (this: AudioNode, ...to: unknown[]): unknown {
    if (to[0] instanceof AudioDestinationNode && this instanceof AudioWorkletNode) {
      const ears = (analyser ??= new AnalyserNode(this.context, { fftSize: 32_768 }));
      globalThis.heard = () => {
        const samples = new Float32Array(ears.fftSize);
        ears.getFloatTimeDomainData(samples);
        return Array.from(samples);
      };
      connect.call(this, ears);
    }
    return connect.call(this, ...to);
  };
  Reflect.set(AudioNode.prototype, "connect", tapped);
}

export class Walker {
  readonly who: Person;
  readonly name: string;

  private constructor(who: Person, name: string) {
    this.who = who;
    this.name = name;
  }

  /** A browser of their own, at this address. `also` is run before the page's own script. */
  static async open(kind: Kind, name: string, hz: number, address: string, also: { run: (word: number) => void; with: number }[] = []): Promise<Walker> {
    const who = await person(kind, hz, "about:blank");
    await who.page.evaluateOnNewDocument(put_ears_on);
    for (const each of also) await who.page.evaluateOnNewDocument(each.run, each.with);
    await who.page.setViewport({ width: 1280, height: 800 });
    await who.page.goto(address);
    return new Walker(who, name);
  }

  /** Waits until this holds in the page. */
  async until(what: string, holds: (word: string) => boolean, word = ""): Promise<void> {
    const give_up_at = Date.now() + PATIENCE_MS;
    while (!(await this.who.page.evaluate(holds, word).catch(() => false))) {
      if (Date.now() > give_up_at) {
        const shown = await this.who.page.evaluate(() => document.body.innerText);
        throw new Error(`${this.name} (${this.who.kind}) waits for ${what} and sees:\n${shown}\n${this.who.said.join("\n")}`);
      }
      await new Promise((done) => setTimeout(done, 30));
    }
  }

  async sees(text: string): Promise<void> {
    await this.until(`“${text}”`, (text) => document.body.innerText.includes(text), text);
  }

  async sees_no(text: string): Promise<void> {
    await this.until(`no “${text}”`, (text) => !document.body.innerText.includes(text), text);
  }

  /** Presses the button of this name, or whose name begins so, with the mouse. */
  async press(name: string): Promise<void> {
    const find = (name: string) => {
      const all = [...(document.querySelector("dialog") ?? document).querySelectorAll<HTMLElement>("button:not(:disabled), summary, label.switch")];
      const shown = all.filter((each) => each.getClientRects().length > 0);
      const called = (each: HTMLElement) => each.getAttribute("aria-label") ?? each.innerText.trim().split("\n")[0] ?? "";
      return shown.find((each) => called(each) === name) ?? shown.find((each) => called(each).startsWith(`${name} `));
    };
    const give_up_at = Date.now() + PATIENCE_MS;
    for (;;) {
      const handle = (await this.who.page.evaluateHandle(find, name)).asElement() as ElementHandle<HTMLElement> | null;
      // One that is just being replaced is pressed once it is there.
      const is_pressed = handle !== null && (await handle.click().then(() => true, () => false));
      if (is_pressed) return;
      assert.ok(Date.now() < give_up_at, `${this.name} cannot press “${name}” in:\n${await this.text("body")}`);
      await new Promise((done) => setTimeout(done, 30));
    }
  }

  async type(field: string, text: string): Promise<void> {
    await this.until(`the field ${field}`, (field) => document.querySelector(field) !== null, field);
    await this.who.page.focus(field);
    await this.who.page.keyboard.type(text);
  }

  async choose_file(field: string, path: string): Promise<void> {
    const handle = (await this.who.page.$(field)) as ElementHandle<HTMLInputElement> | null;
    await handle?.uploadFile(path);
  }

  /** Presses a button that saves a file, and reads what was saved. Only Chromium can be told where to. */
  async saves(button: string, file: string): Promise<string> {
    const folder = join(this.who.directory, "saved");
    const devtools = await this.who.page.createCDPSession();
    await devtools.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath: folder });
    await this.press(button);
    const give_up_at = Date.now() + PATIENCE_MS;
    while (!existsSync(join(folder, file))) {
      assert.ok(Date.now() < give_up_at, `${this.name} has no file ${file}`);
      await new Promise((done) => setTimeout(done, 30));
    }
    return readFileSync(join(folder, file), "utf8");
  }

  async go(address: string): Promise<void> {
    // To another fragment only, a browser would not load it again.
    await this.who.page.goto("about:blank");
    await this.who.page.goto(address);
  }

  async escape(): Promise<void> {
    await this.who.page.keyboard.press("Escape");
  }

  text(selector: string): Promise<string> {
    return this.who.page.$eval(selector, (element) => element.textContent);
  }

  /** That this canvas shows a picture that changes. */
  async sees_moving(selector: string): Promise<void> {
    await this.until(
      `a picture in ${selector} that moves`,
      (selector) => {
        const canvas = document.querySelector<HTMLCanvasElement>(selector);
        if (canvas === null || canvas.hidden || canvas.width < 100) return false;
        const small = new OffscreenCanvas(16, 16);
        const context = small.getContext("2d");
        context?.drawImage(canvas, 0, 0, 16, 16);
        const now = String(context?.getImageData(0, 0, 16, 16).data);
        const key = `seen ${selector}`;
        const seen = (Reflect.get(globalThis, key) as Set<string> | undefined) ?? new Set();
        Reflect.set(globalThis, key, seen.add(now));
        // Firefox's camera shows one colour at a time, and no light ones.
        return seen.size > 5 && now.split(",").some((value, at) => at % 4 < 3 && Number(value) > 40);
      },
      selector,
    );
  }

  async hears(hz: number): Promise<void> {
    const listen = async (): Promise<Heard> => judge(await this.who.page.evaluate(() => globalThis.heard?.() ?? []), NOTES);
    const give_up_at = Date.now() + PATIENCE_MS;
    let heard = await listen();
    while (heard.hz !== hz || heard.rms < 0.02) {
      assert.ok(Date.now() < give_up_at, `${this.name} hears ${heard.hz} Hz with ${heard.rms.toFixed(3)} instead of ${hz}`);
      await new Promise((done) => setTimeout(done, 200));
      heard = await listen();
    }
  }

  async hears_nothing(): Promise<void> {
    const give_up_at = Date.now() + PATIENCE_MS;
    for (;;) {
      const { rms } = judge(await this.who.page.evaluate(() => globalThis.heard?.() ?? []), NOTES);
      if (rms < 0.002) return;
      assert.ok(Date.now() < give_up_at, `${this.name} still hears something: ${rms.toFixed(3)}`);
      await new Promise((done) => setTimeout(done, 200));
    }
  }

  /** Microphones and cameras that are on. */
  devices_on(): Promise<string[]> {
    return this.who.page.evaluate(() => globalThis.taken.filter((track) => track.readyState === "live").map((track) => track.kind));
  }

  /** What the page's policy, the browser or a script complained of. */
  async complaints(): Promise<string[]> {
    const violations = await this.who.page.evaluate(() => globalThis.violations);
    return [...violations, ...this.who.said.filter((line) => line.startsWith("error:"))];
  }

  async close(): Promise<void> {
    await this.who.close();
  }
}
