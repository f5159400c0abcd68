/**
 * A long call, when it is asked for: `SUPERNODE_LONG_SECONDS`. Two pages and four programs, each with sound and picture: memory
 * stays, and sound and picture stay together.
 */
import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { median, pictures_behind_sound } from "./stage/beats.ts";
import { AMPLITUDE, type Person, person } from "./stage/browsers.ts";
import { ogg, repeated } from "./stage/ogg.ts";
import type { TestPage } from "./stage/page.ts";
import { Native, read } from "./stage/relay.ts";
import { HERE, enter, of_page, open_stage, pause, until } from "./stage/room.ts";

declare const globalThis: { test: TestPage };

const SECONDS = Number(process.env["SUPERNODE_LONG_SECONDS"] ?? 0);
/** So often it is looked at; what the first look finds, the later ones are held to. */
const LOOKS = 5;
const LOOK_MS = 10_000;
const PROGRAMS = 4;
const APART_MS_MAX = 80;
/** A browser's memory goes up and down by so much. */
const GROWTH_MAX = 1.1;

const stage = open_stage();

test("a long call of six takes no more memory with time, and its sound and pictures stay together", { timeout: (SECONDS + 120) * 1000, skip: SECONDS === 0 || !HERE.includes("chromium") }, async () => {
  const link = stage.relay.room();
  const people = [await person("chromium", 440, stage.url), await person("chromium", 620, stage.url)] as const;
  const [ada, bob] = people;
  const natives: Native[] = [];
  try {
    await ada.page.evaluate(() => {
      globalThis.test.beat();
    });
    await enter(ada, link, "Ada", true);
    await enter(bob, link, "Bob", true);
    // Quiet enough that a beat stands out.
    const packets = await ada.page.evaluate(async (...note) => await globalThis.test.encode_note(...note), 300, AMPLITUDE / 50, 60);
    const [sound, picture] = [join(stage.relay.directory, "long.opus"), join(stage.relay.directory, "long.ivf")];
    writeFileSync(sound, ogg(Array.from({ length: Math.ceil(SECONDS / 60) }, () => packets).flat()));
    writeFileSync(picture, repeated(read(join(process.cwd(), "..", "client", "samples", "picture-a.ivf")), SECONDS));
    for (let at = 0; at < PROGRAMS; at++) {
      natives.push(new Native(stage.relay, `long-${at}`, link, ["--audio", sound, "--video", picture, "--wait-for", String(2 + PROGRAMS)]));
    }
    await until(bob, () => globalThis.test.engine.state.people.filter((person) => person.has_camera).length === 6, 60_000);
    const device = await of_page(bob, () => globalThis.test.engine.state.people.find((person) => person.name === "Ada")?.device ?? "");
    const looking = bob.page.evaluate(async (ms) => {
      const others = globalThis.test.engine.state.people.filter((person) => !person.is_me && person.name !== "Ada");
      await Promise.all(others.map(async ({ device }) => await globalThis.test.look(device, "camera", ms)));
    }, SECONDS * 1000);
    looking.catch(() => undefined);
    await pause(10_000);
    const looks: { megabytes: number; apart: number }[] = [];
    for (let look = 0; look < LOOKS; look++) {
      await pause(Math.max(0, ((SECONDS - 20) * 1000) / LOOKS - LOOK_MS));
      const apart = median(await pictures_behind_sound(bob, device, LOOK_MS));
      looks.push({ megabytes: memory_of(bob), apart });
      const figures = await of_page(bob, () => globalThis.test.engine.figures());
      console.log(`${Math.round(memory_of(bob))} MB in all of the browser, pictures ${Math.round(apart)} ms after their sound`, JSON.stringify(figures));
    }
    const [first, ...later] = looks;
    for (const { megabytes, apart } of looks) {
      assert.ok(Math.abs(apart) < APART_MS_MAX, JSON.stringify(looks));
      assert.ok(megabytes < (first?.megabytes ?? 0) * GROWTH_MAX, JSON.stringify(looks));
    }
    assert.equal(later.length, LOOKS - 1);
  } finally {
    natives.forEach((native) => {
      native.interrupt();
    });
    await Promise.all(people.map((who) => who.close()));
  }
});

/** What all processes of somebody's browser keep, by what they say of themselves. */
function memory_of(who: Person): number {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))) {
    const stat = of_process(name, "stat");
    parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
  }
  const root = who.page.browser().process()?.pid;
  const is_ours = (pid: number | undefined): boolean => pid !== undefined && (pid === root || is_ours(parents.get(pid)));
  const kilobytes = [...parents.keys()].filter(is_ours).map((pid) => Number(/^Pss: +([0-9]+)/m.exec(of_process(String(pid), "smaps_rollup"))?.[1] ?? 0));
  return kilobytes.reduce((sum, of_one) => sum + of_one, 0) / 1024;
}

/** Nothing of one that has ended meanwhile. */
function of_process(pid: string, what: string): string {
  try {
    return readFileSync(`/proc/${pid}/${what}`, "utf8");
  } catch {
    return "";
  }
}
