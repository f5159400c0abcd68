/** What happens, said to those who do not see it. Two live regions; what was said is taken out again after a while. */
import type { State } from "../../contract.ts";
import { make } from "../dom.ts";
import { first_character, name_of, one_line } from "../text.ts";
import type { Words } from "../words.ts";

/** How long a sentence stays for a screen reader that is busy. */
const KEPT_MS = 10_000;
/** Most sentences that wait; what is older is not news any more. */
const WAITING_MAX = 6;
const MESSAGE_CHARACTERS_MAX = 200;

export class Announcer {
  readonly element = make("div", { class: "spoken" });
  readonly #polite = make("div", { "aria-live": "polite", role: "status" });
  readonly #urgent = make("div", { "aria-live": "assertive", role: "alert" });

  constructor() {
    this.element.append(this.#polite, this.#urgent);
  }

  say(text: string, urgent = false): void {
    if (text === "") return;
    const region = urgent ? this.#urgent : this.#polite;
    const sentence = make("p", {}, text);
    region.append(sentence);
    while (region.childElementCount > WAITING_MAX) region.firstElementChild?.remove();
    setTimeout(() => {
      sentence.remove();
    }, KEPT_MS);
  }
}

/** What is worth saying of the step from one state to the next, in the order in which it is said. */
export function news(before: State, after: State, words: Words): { readonly text: string; readonly urgent: boolean }[] {
  const said: { text: string; urgent: boolean }[] = [];
  const say = (text: string, urgent = false): void => {
    if (text !== "") said.push({ text, urgent });
  };
  if (before.phase.kind !== "in" || after.phase.kind !== "in") return said;
  const { announce } = words;
  if (before.line !== after.line) say(announce.line[after.line], after.line === "lost");
  if (before.people !== after.people) {
    const people_before = new Map(before.people.map((person) => [person.device, person]));
    const people_after = new Map(after.people.map((person) => [person.device, person]));
    const came = after.people.filter((person) => !person.is_me && !people_before.has(person.device));
    const left = before.people.filter((person) => !person.is_me && !people_after.has(person.device));
    if (came.length === 1 && came[0] !== undefined) say(announce.came(name_of(came[0])));
    else if (came.length > 1) say(announce.came_many(came.length));
    if (left.length === 1 && left[0] !== undefined) say(announce.left(name_of(left[0])));
    else if (left.length > 1) say(announce.left_many(left.length));
    for (const person of after.people) {
      const was = people_before.get(person.device)?.has_screen ?? false;
      if (person.is_me || was === person.has_screen) continue;
      say(person.has_screen ? announce.screen(name_of(person)) : announce.screen_over(name_of(person)));
    }
  }
  if (before.mine !== after.mine) {
    if (before.mine.microphone !== after.mine.microphone) say(announce.microphone[after.mine.microphone]);
    if (before.mine.camera !== after.mine.camera) say(announce.camera[after.mine.camera]);
    if (before.mine.screen !== after.mine.screen) say(announce.my_screen[after.mine.screen]);
  }
  const me = after.people.find((person) => person.is_me)?.device;
  if (before.said !== after.said) {
    const last = before.said[before.said.length - 1]?.id ?? -1;
    for (const { id, from, what, ...author } of after.said.slice(-WAITING_MAX)) {
      if (id <= last || from === me) continue;
      if (what.kind === "text") say(announce.message(name_of(author), one_line(what.text, MESSAGE_CHARACTERS_MAX)));
      else say(announce.file(name_of(author), one_line(what.name, MESSAGE_CHARACTERS_MAX)));
    }
  }
  if (before.reactions !== after.reactions) {
    const known = new Set(before.reactions.map(({ id }) => id));
    for (const { id, from, emoji } of after.reactions.slice(-WAITING_MAX)) {
      const who = after.people.find((person) => person.device === from);
      if (known.has(id) || who === undefined || who.is_me) continue;
      const choice = words.reactions.choices.find((choice) => choice.emoji === emoji);
      say(announce.reaction(name_of(who), choice?.name ?? first_character(emoji)));
    }
  }
  return said;
}
