import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { AMPLITUDE, type Kind, type Person, kinds, person, serve } from "./browsers.ts";
import { judge } from "./ears.ts";
import type { TestPage } from "./page.ts";
import { Native, Relay, read } from "./relay.ts";

declare const globalThis: { test: TestPage };

const NOTES = [440, 620, 850];
const RATE = 48_000;
const HERE = kinds();
let relay: Relay;
let served: Awaited<ReturnType<typeof serve>>;

before(async () => {
  relay = await Relay.open();
  served = await serve(readFileSync(join(process.cwd(), "dist", "browsers", "engine.html"), "utf8"));
});

after(() => {
  relay.close();
  served.server.close();
  served.server.closeAllConnections();
});

/** Comes into the room of this link, and says when it is in. */
async function enter(who: Person, link: string, name: string, camera: boolean): Promise<void> {
  try {
    await who.page.evaluate(
      async (link, name, camera) => {
        const { engine } = globalThis.test;
        await engine.open_link(link);
        engine.set_name(name);
        await engine.set_microphone(true);
        if (camera) {
          await engine.set_camera(true);
        }
        await engine.enter();
      },
      link,
      name,
      camera,
    );
  } catch (error) {
    throw new Error(`${who.kind}: ${JSON.stringify(error)} ${who.said.join("\n")}`, { cause: error });
  }
}

/** Waits until this holds in the page. */
async function until(who: Person, holds: () => boolean, ms = 20_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await who.page.evaluate(holds).catch(() => false))) {
    if (Date.now() > end) {
      const state = await who.page.evaluate(() => JSON.stringify(globalThis.test.engine.state));
      throw new Error(`${who.kind}: not within ${ms} ms: ${holds.toString()}\n${state}\n${who.said.join("\n")}`);
    }
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function hears(who: Person, hz: number, seconds = 5): Promise<void> {
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

async function sees(who: Person, name: string): Promise<void> {
  const device = await who.page.evaluate(
    (name) => globalThis.test.engine.state.people.find((person) => person.name === name)?.device ?? "",
    name,
  );
  const seen = await who.page.evaluate(async (device) => await globalThis.test.look(device, "camera", 5000), device);
  const said = `${who.kind} sees ${name}: ${seen.width}x${seen.height}, ${seen.changes} changes, ${JSON.stringify(seen.colours)}`;
  console.log(said);
  assert.ok(seen.width >= 160 && seen.height >= 120, said);
  assert.ok(seen.changes >= 20, said);
  assert.ok(seen.colours.some((colour) => Math.max(...colour) > 40), `${said}: dark`);
}

for (const [one, other] of HERE.flatMap((one, at) => HERE.slice(at).map((other): [Kind, Kind] => [one, other]))) {
  test(`${one} and ${other} hear and see each other`, { timeout: 180_000 }, async () => {
    const link = relay.room();
    const people = await Promise.all([person(one, 440, served.url), person(other, 620, served.url)]);
    const [ada, bob] = people;
    try {
      const started = Date.now();
      await enter(ada, link, "Ada", true);
      await enter(bob, link, "Bob", true);
      console.log(`both are in after ${Date.now() - started} ms`);
      for (const who of people) {
        await until(who, () => globalThis.test.engine.state.people.filter((person) => person.name !== "" && person.has_camera).length === 2);
      }
      const numbers = await Promise.all(people.map((who) => who.page.evaluate(() => globalThis.test.engine.state.safety_number)));
      assert.ok(numbers[0] !== undefined && numbers[0] === numbers[1], String(numbers));
      await new Promise((done) => setTimeout(done, 2000));
      await hears(ada, 620);
      await hears(bob, 440);
      await sees(ada, "Bob");
      await sees(bob, "Ada");
    } finally {
      await Promise.all(people.map((who) => who.close()));
    }
  });
}

const [FIRST] = HERE;
const SAMPLES = join(process.cwd(), "..", "client", "samples");

/** What somebody shows of a state. */
async function state_of<T>(who: Person, of: () => T): Promise<T> {
  return await who.page.evaluate(of);
}

test("a page and a program hear and see each other", { timeout: 180_000, skip: FIRST === undefined }, async () => {
  const link = relay.room();
  const ada = await person(FIRST ?? "chromium", 440, served.url);
  let nell: Native | undefined;
  try {
    await enter(ada, link, "Ada", true);
    const files = ["--audio", join(SAMPLES, "speech-a.opus"), "--video", join(SAMPLES, "picture-a.ivf")];
    nell = new Native(relay, "nell", link, [...files, "--wait-for", "2"]);
    await until(ada, () => globalThis.test.engine.state.people.some((person) => !person.is_me && person.has_camera));
    const device = await state_of(ada, () => globalThis.test.engine.state.people.find((person) => !person.is_me)?.device ?? "");
    // The program begins to play once all that it plays is wanted.
    const looking = ada.page.evaluate(async (device) => await globalThis.test.look(device, "camera", 7000), device);
    // What fails meanwhile is told, not that nobody looks any more.
    looking.catch(() => undefined);
    const samples = await ada.page.evaluate(async () => await globalThis.test.listen(4000));
    const { rms } = judge(samples, NOTES);
    const figures = await ada.page.evaluate(async () => await globalThis.test.engine.figures());
    console.log(`the page hears the program: rms ${rms.toFixed(3)}`, JSON.stringify(figures));
    assert.ok(rms > 0.005, String(rms));
    assert.ok(figures.concealed <= 0.01 * figures.heard + 2, JSON.stringify(figures));
    const seen = await looking;
    console.log(`the page sees the program: ${seen.width}x${seen.height}, ${seen.changes} changes`);
    assert.ok(seen.changes >= 10 && seen.width > 0, JSON.stringify(seen));
    await ada.page.evaluate(async () => {
      await globalThis.test.engine.say("hello, program");
    });
    await until(ada, () => globalThis.test.engine.state.said.length === 1);
    await new Promise((done) => setTimeout(done, 1000));
    nell.interrupt();
    await nell.ended;
    assert.match(nell.log, /hello, program/);
    assert.doesNotMatch(nell.log, /"is":/);
    const sound = readdirSync(nell.directory).find((name) => name.endsWith("audio.opus")) ?? "";
    const picture = readdirSync(nell.directory).find((name) => name.endsWith("video.ivf")) ?? "";
    const recorded = await ada.page.evaluate(
      async (base64) => await globalThis.test.decode(base64),
      read(join(nell.directory, sound)).toString("base64"),
    );
    const heard = judge(recorded.slice(RATE / 2), NOTES);
    console.log(`the program recorded ${heard.seconds.toFixed(1)} s at ${heard.hz} Hz, gaps ${(100 * heard.gaps).toFixed(2)} %`);
    assert.equal(heard.hz, 440);
    assert.ok(heard.gaps < 0.01 && heard.seconds > 3, JSON.stringify({ gaps: heard.gaps, seconds: heard.seconds }));
    assert.ok(read(join(nell.directory, picture)).length > 20_000, "a picture was recorded");
  } finally {
    nell?.interrupt();
    await ada.close();
  }
});

test("what is said, felt and sent comes, and nothing of it runs", { timeout: 180_000, skip: FIRST === undefined }, async () => {
  const link = relay.room();
  const last = HERE[HERE.length - 1] ?? "chromium";
  const [ada, bob] = await Promise.all([person(FIRST ?? "chromium", 440, served.url), person(last, 620, served.url)]);
  try {
    await enter(ada, link, "<img src=x onerror=alert(1)>\u202e", false);
    await enter(bob, link, "Bob", false);
    await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name.startsWith("<img")));
    assert.equal(await state_of(bob, () => globalThis.test.engine.state.people.find((person) => !person.is_me)?.name), "<img src=x onerror=alert(1)>");
    await ada.page.evaluate(async () => {
      const { engine } = globalThis.test;
      await engine.say("one\u0007 <b>two</b>");
      await engine.react("🎉");
      await engine.offer_file(new File([new Uint8Array(300_000).map((_, at) => at * 7)], "../a b.bin"));
    });
    await until(bob, () => globalThis.test.engine.state.reactions.some((reaction) => reaction.emoji === "🎉"), 5000);
    await until(bob, () => globalThis.test.engine.state.said.some((line) => line.what.kind === "file" && line.what.state === "here"));
    const said = await state_of(bob, () => globalThis.test.engine.state.said.map((line) => line.what));
    assert.deepEqual(said.find((what) => what.kind === "text"), { kind: "text", text: "one <b>two</b>" });
    const file = said.find((what) => what.kind === "file");
    assert.deepEqual(file, { kind: "file", name: ".._a b.bin", bytes: 300_000, done: 1, state: "here" });
    await until(ada, () => globalThis.test.engine.state.said.some((line) => line.what.kind === "file" && line.what.state === "here"));

    const bob_identity = await state_of(bob, () => globalThis.test.engine.state.me.identity);
    const numbers = await Promise.all([
      ada.page.evaluate(async (who) => await globalThis.test.engine.person_number(who), bob_identity),
      bob.page.evaluate(async () => await globalThis.test.engine.person_number(globalThis.test.engine.state.people.find((person) => !person.is_me)?.identity ?? "")),
    ]);
    assert.equal(numbers[0], numbers[1]);
    await ada.page.evaluate(async (who) => {
      await globalThis.test.engine.kick(who);
    }, bob_identity);
    await until(bob, () => globalThis.test.engine.state.phase.kind === "over");
    const phase = await state_of(bob, () => globalThis.test.engine.state.phase);
    assert.ok(phase.kind === "over" && !phase.may_come_back, JSON.stringify(phase));
    await until(ada, () => globalThis.test.engine.state.people.length === 1);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
  }
});

test("a call goes on after a reload and after the relay died", { timeout: 240_000, skip: FIRST === undefined }, async () => {
  const own = await Relay.open();
  const link = own.room();
  const last = HERE[HERE.length - 1] ?? "chromium";
  const [ada, bob] = await Promise.all([person(FIRST ?? "chromium", 440, served.url), person(last, 620, served.url)]);
  try {
    await enter(ada, link, "Ada", false);
    await enter(bob, link, "Bob", false);
    await until(ada, () => globalThis.test.engine.state.people.filter((person) => person.is_here).length === 2);
    const before = await state_of(bob, () => globalThis.test.engine.state.me.identity);
    const reloaded = Date.now();
    await bob.page.reload();
    await bob.page.evaluate(async (link) => {
      await globalThis.test.engine.open_link(link);
    }, link);
    await until(bob, () => globalThis.test.engine.state.phase.kind === "in");
    console.log(`in again ${Date.now() - reloaded} ms after a reload began`);
    assert.equal(await state_of(bob, () => globalThis.test.engine.state.me.identity), before);
    await until(bob, () => globalThis.test.engine.state.people.some((person) => person.name === "Ada" && person.is_here));
    await new Promise((done) => setTimeout(done, 1500));
    await hears(ada, 620);

    own.kill();
    await until(ada, () => globalThis.test.engine.state.line === "lost", 15_000);
    await own.start();
    for (const who of [ada, bob]) {
      await until(who, () => globalThis.test.engine.state.line === "good" && globalThis.test.engine.state.people.filter((person) => person.is_here).length === 2, 60_000);
    }
    await new Promise((done) => setTimeout(done, 3000));
    await hears(bob, 440);
  } finally {
    await Promise.all([ada.close(), bob.close()]);
    own.close();
  }
});
