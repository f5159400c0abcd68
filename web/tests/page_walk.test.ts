/** The page as people use it: opened by a link and clicked through, in real browsers, with a real relay. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { kinds, serve } from "./stage/browsers.ts";
import { Walker } from "./page_walker.ts";
import { Relay } from "./stage/relay.ts";

const PAGE = join(process.cwd(), "dist", "browsers", "supernode.html");
const HERE = kinds();
const FIRST = HERE[0] ?? "chromium";
const LAST = HERE[HERE.length - 1] ?? "chromium";
const NONE = HERE.length === 0;
const THEIRS = ".tile:not([data-me])[data-what=camera] canvas";
const OURS = ".tile[data-me] canvas";

const LIST = "bread, milk\n".repeat(20_000);

let relay: Relay;
let served: Awaited<ReturnType<typeof serve>>;

before(async () => {
  relay = await Relay.open();
  served = await serve(readFileSync(PAGE, "utf8"));
});

after(() => {
  relay.close();
  served.server.close();
  served.server.closeAllConnections();
});

const at = (link: string): string => `${served.url}#${link}`;
const tiles = (number: number) => [`${number} tiles`, (number: string) => document.querySelectorAll("li.tile").length === Number(number), String(number)] as const;

test("walk: two people in a call", { timeout: 120_000, skip: NONE }, async () => {
  const link = relay.room();
  const [ada, bob] = await Promise.all([Walker.open(FIRST, "Ada", 440, at(link)), Walker.open(FIRST, "Bob", 620, at(link))]);
  const all = [ada, bob];
  try {
    await ada.sees("Enter the room");
    await ada.press("Turn on microphone and camera");
    await ada.sees_moving(".preview canvas");
    await ada.until("a level", () => Number(document.querySelector(".meter")?.getAttribute("aria-valuenow")) > 20);
    await ada.sees("You come in with sound and picture.");
    await ada.press("Enter");
    await ada.sees("You have no name yet.");
    await ada.type("#name", "Ada");
    await ada.press("Enter");
    await ada.sees("Nobody else is here yet");
    await ada.sees_moving(OURS);

    await bob.type("#name", "Bob");
    await bob.press("Turn on microphone and camera");
    await bob.sees_moving(".preview canvas");
    await bob.press("Enter");
    for (const who of all) {
      await who.until(...tiles(2));
      await who.sees_moving(THEIRS);
      await who.sees_moving(OURS);
    }
    await ada.sees("Bob");
    await ada.hears(620);
    await bob.hears(440);

    await bob.press("Mute");
    await ada.sees("muted");
    await ada.hears_nothing();
    await bob.press("Unmute");
    await ada.sees_no("muted");
    await ada.hears(620);
    await bob.press("Stop camera");
    await ada.until("no picture of Bob", (theirs) => document.querySelector<HTMLElement>(theirs)?.hidden === true, THEIRS);
    await bob.press("Start camera");
    await ada.sees_moving(THEIRS);

    await bob.press("Share screen");
    await ada.sees_moving(".tile[data-what=screen] canvas");
    await bob.sees("You are showing your screen to everybody.");
    await bob.press("Stop sharing");
    await ada.until(...tiles(2));

    await ada.press("React");
    await ada.press("Applause");
    await bob.until("applause", () => document.querySelector(".reaction[data-shown]")?.textContent === "👏");
    await ada.press("Chat");
    await ada.type(".chat textarea", "<b>Good</b> morning");
    await ada.who.page.keyboard.press("Enter");
    await bob.press("Chat");
    await bob.sees("<b>Good</b> morning");
    writeFileSync(join(ada.who.directory, "list.txt"), LIST);
    await ada.choose_file(".chat input[type=file]", join(ada.who.directory, "list.txt"));
    await bob.sees("Here");
    await ada.sees("Sent");
    if (FIRST === "chromium") assert.equal(await bob.saves("Save list.txt", "list.txt"), LIST);

    await Promise.all(all.map((who) => who.press("People")));
    await ada.press("Compare numbers with Bob");
    await bob.press("Compare numbers with Ada");
    await ada.until("digits", () => document.querySelectorAll(".digits li").length === 12);
    await bob.until("digits", () => document.querySelectorAll(".digits li").length === 12);
    assert.equal(await ada.text(".digits"), await bob.text(".digits"));
    await ada.press("They are the same");
    await ada.sees("This device remembers it.");
    await ada.escape();
    await bob.escape();

    await bob.who.page.reload();
    await bob.until(...tiles(2));
    await ada.hears(620);
    await ada.sees_moving(THEIRS);
    await ada.press("Put out Bob");
    await ada.press("Put out");
    await bob.sees("The call is over");
    assert.deepEqual(await bob.devices_on(), []);
    await ada.until(...tiles(1));
    await ada.press("Leave");
    await ada.sees("You have left the call");
    assert.deepEqual(await ada.devices_on(), []);
    await ada.press("Come back");
    await ada.sees_moving(OURS);
    assert.deepEqual(await ada.devices_on(), ["audio", "video"]);
    assert.deepEqual((await Promise.all(all.map((who) => who.complaints()))).flat(), []);
  } finally {
    await Promise.all(all.map((who) => who.close()));
  }
});

test("walk: one rings another by a link", { timeout: 120_000, skip: NONE }, async () => {
  const [ada, cy] = await Promise.all([Walker.open(FIRST, "Ada", 440, at(relay.invite)), Walker.open(LAST, "Cy", 850, served.url)]);
  const both = [ada, cy];
  try {
    await ada.type("#name", "Ada");
    await ada.press("Turn on microphone and camera");
    await ada.press("Open a room");
    await ada.sees("Nobody else is here yet");
    await ada.press("Invite people");
    await ada.press("Make a link to ring me");
    await ada.until("a link", () => document.querySelectorAll<HTMLInputElement>("dialog input")[1]?.value.includes("ticket=") ?? false);
    const ticket = await ada.who.page.evaluate(() => document.querySelectorAll<HTMLInputElement>("dialog input")[1]?.value ?? "");
    await ada.escape();

    await cy.type("#link", ticket);
    await cy.press("Open the link");
    await cy.sees("Ring somebody");
    await cy.type("#name", "Cy");
    await cy.press("Turn on microphone and camera");
    await cy.sees_moving(".preview canvas");
    await cy.press("Ring");
    await cy.sees("It rings");
    await ada.press("Decline");
    await cy.sees("They declined.");
    await cy.press("Try again");
    await ada.press("Accept");
    for (const who of both) {
      await who.until(...tiles(2));
      await who.sees_moving(THEIRS);
    }
    await ada.hears(850);
    await cy.hears(440);
    await cy.press("Leave");
    await cy.sees("You have left the call");
    await ada.sees("All others left the call.");
    assert.deepEqual((await Promise.all(both.map((who) => who.complaints()))).flat(), []);
  } finally {
    await Promise.all(both.map((who) => who.close()));
  }
});

test("walk: opened from a disk: a door where somebody looks first who comes, and links that lead nowhere", { timeout: 120_000, skip: NONE }, async () => {
  const gone = await Relay.open();
  const nowhere = gone.room();
  gone.close();
  const file = pathToFileURL(PAGE).href;
  const link = relay.room();
  const [ada, cy] = await Promise.all([
    Walker.open(FIRST, "Ada", 440, `${file}#${link}`),
    Walker.open(LAST, "Cy", 850, `${file}#supernode://relay.example/?room=abc`),
  ]);
  const both = [ada, cy];
  try {
    await ada.type("#name", "Ada");
    await ada.press("Turn on microphone and camera");
    await ada.press("Enter");
    await ada.sees("Nobody else is here yet");
    await ada.press("People");
    await ada.press("Look first who comes");
    await ada.sees("Somebody inside lets each person in.");

    await cy.sees("This link cannot be read.");
    await cy.type("#link", "hello");
    await cy.press("Open the link");
    await cy.sees("An invite link begins with supernode://.");
    await cy.go(`${file}#${nowhere}`);
    await cy.type("#name", "Cy");
    await cy.press("Enter");
    await cy.sees("You did not get in");
    await cy.press("Open another link");
    await cy.type("#link", link);
    await cy.press("Open the link");
    await cy.press("Turn on microphone and camera");
    await cy.sees_moving(".preview canvas");
    await cy.press("Enter");
    await cy.sees("Knocking");
    await ada.sees("At the door (1)");
    await ada.press("Let in");
    for (const who of both) {
      await who.until(...tiles(2));
      await who.sees_moving(THEIRS);
    }
    await ada.hears(850);
    await cy.hears(440);
    await ada.press("More");
    await ada.press("Who can listen?");
    await ada.sees("This page is a file on your device");
    await ada.escape();
    await ada.press("More");
    await ada.press("Figures");
    await ada.sees("Round trip to the relay");
    await ada.escape();
    await cy.press("Leave");
    await ada.sees("Nobody else is here yet");
    assert.deepEqual((await Promise.all(both.map((who) => who.complaints()))).flat(), []);
  } finally {
    await Promise.all(both.map((who) => who.close()));
  }
});
