/** What tests of calls do with people: bring them in, wait for what their page shows, and judge what they hear and see. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Server } from "node:http";
import { join } from "node:path";
import { after, before } from "node:test";

import { AMPLITUDE, type Kind, type Person, kinds, serve } from "./browsers.ts";
import { judge } from "./ears.ts";
import type { TestPage } from "./page.ts";
import { Relay } from "./relay.ts";

declare const globalThis: { test: TestPage };

/** Notes that people hum, each far from the others. */
export const NOTES = [440, 620, 850, 1130];
export const HERE = kinds();
/** For what needs one browser only, and for what is to be in another. */
export const FIRST: Kind = HERE[0] ?? "chromium";
export const LAST: Kind = HERE[HERE.length - 1] ?? "chromium";
export const NO_BROWSER = HERE.length === 0;
/** How long each step on the way in may take. */
const STEP_MS = 20_000;

/** What all tests of a file have between them. */
export interface Stage {
  readonly relay: Relay;
  /** Of the page with nothing but its engine. */
  readonly url: string;
}

/** Opens a relay and serves the engine before the first test of a file, and closes both after its last. To be called while the
 *  file is read, and not waited for: what is opened before any test has begun is closed by nobody if none of them is chosen. */
export function open_stage(): Stage {
  let relay: Relay | undefined;
  let served: Awaited<ReturnType<typeof serve_page>> | undefined;
  before(async () => {
    relay = await Relay.open();
    served = await serve_page();
  });
  after(() => {
    relay?.close();
    if (served !== undefined) {
      stop(served.server);
    }
  });
  return {
    get relay() {
      return opened(relay);
    },
    get url() {
      return opened(served).url;
    },
  };
}

function opened<T>(what: T | undefined): T {
  if (what === undefined) {
    throw new Error("the stage is open within tests only");
  }
  return what;
}

/** The page with nothing but its engine, served on loopback. */
export async function serve_page(): Promise<{ url: string; server: Server }> {
  return await serve(readFileSync(join(process.cwd(), "dist", "browsers", "engine.html"), "utf8"));
}

export function stop(server: Server): void {
  server.close();
  server.closeAllConnections();
}

/** Comes into the room of this link, and is in when it returns. */
export async function enter(who: Person, link: string, name: string, camera: boolean): Promise<void> {
  const step = async (what: string, take: Promise<void>) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_good, bad) => {
      timer = setTimeout(() => {
        bad(new Error(`not within ${STEP_MS} ms`));
      }, STEP_MS);
    });
    try {
      await Promise.race([take, late]);
    } catch (error) {
      const state = await who.page.evaluate(() => JSON.stringify(globalThis.test.engine.state));
      throw new Error(`${who.kind}: ${what}: ${String(error)} ${JSON.stringify(error)}\n${state}\n${who.said.join("\n")}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  };
  const { page } = who;
  await step("open the link", page.evaluate(async (link) => {
    await globalThis.test.engine.open_link(link);
  }, link));
  await step("microphone", page.evaluate(async (name) => {
    globalThis.test.engine.set_name(name);
    await globalThis.test.engine.set_microphone(true);
  }, name));
  if (camera) {
    await step("camera", page.evaluate(async () => {
      await globalThis.test.engine.set_camera(true);
    }));
  }
  await step("enter", page.evaluate(async () => {
    await globalThis.test.engine.enter();
  }));
}

/** Waits until this holds in the page. */
export async function until(who: Person, holds: () => boolean, ms = 20_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await who.page.evaluate(holds).catch(() => false))) {
    if (Date.now() > end) {
      const state = await who.page.evaluate(() => JSON.stringify(globalThis.test.engine.state));
      throw new Error(`${who.kind}: not within ${ms} ms: ${holds.toString()}\n${state}\n${who.said.join("\n")}`);
    }
    await pause(50);
  }
}

/** What somebody's page says of itself. */
export async function of_page<T>(who: Person, of: () => T | Promise<T>): Promise<T> {
  return await who.page.evaluate(of);
}

/** Hears this note without gaps for so long. */
export async function hears(who: Person, hz: number, seconds = 3): Promise<void> {
  const samples = await who.page.evaluate(async (ms) => await globalThis.test.listen(ms), seconds * 1000);
  const heard = judge(samples, NOTES);
  const said = `${who.kind} hears ${heard.hz} Hz, rms ${heard.rms.toFixed(3)}, gaps ${(100 * heard.gaps).toFixed(2)} % of ${heard.seconds.toFixed(1)} s`;
  const figures = await who.page.evaluate(async () => await globalThis.test.engine.figures());
  console.log(said, JSON.stringify(figures));
  assert.ok(heard.seconds > seconds * 0.8, said);
  assert.equal(heard.hz, hz, said);
  assert.ok(heard.gaps < 0.01, said);
  const amplitude = heard.amplitudes.get(hz) ?? 0;
  assert.ok(amplitude > AMPLITUDE / 8 && amplitude < AMPLITUDE * 4, `${said}, amplitude ${amplitude.toFixed(3)}`);
}

/** Sees somebody of this name move. */
export async function sees(who: Person, name: string): Promise<void> {
  const device = await who.page.evaluate(
    (name) => globalThis.test.engine.state.people.find((person) => person.name === name)?.device ?? "",
    name,
  );
  const seen = await who.page.evaluate(async (device) => await globalThis.test.look(device, "camera", 3000), device);
  const said = `${who.kind} sees ${name}: ${seen.width}x${seen.height}, ${seen.changes} changes, ${JSON.stringify(seen.colours)}`;
  console.log(said);
  assert.ok(seen.width >= 160 && seen.height >= 120, said);
  assert.ok(seen.changes >= 12, said);
  assert.ok(seen.colours.some((colour) => Math.max(...colour) > 40), `${said}: dark`);
}

export async function pause(ms: number): Promise<void> {
  await new Promise((done) => setTimeout(done, ms));
}
