/** Every state of the screens that is looked at: by tests of accessibility and of layout, and by eye. */
import type { Participant, Phase, State } from "../../contract.ts";
import { DEVICES, FIRST, people, person, RELAY, text_said, type Scripted } from "./scripted.ts";

const DOOR = (leads_to: "room" | "person" | "relay"): Phase => ({
  kind: "door",
  link: { relay: RELAY, leads_to, ...(leads_to === "person" ? { person: person(4).identity } : {}) },
});
const ON: State["mine"] = { microphone: "on", camera: "on", screen: "off" };
const NUMBER = "88123 40961 27745 50319 66270 91834 17502 38846 20957 73310 44682 09175";

function call(all: readonly Participant[], change: Partial<State> = {}): State {
  return {
    ...FIRST,
    phase: { kind: "in" },
    me: { ...FIRST.me, name: "Ada Okafor" },
    room_name: "Harbour choir",
    people: all,
    mine: ON,
    devices: DEVICES,
    safety_number: NUMBER,
    ...change,
  };
}

/** People as they are in a call: one speaks, some are muted, one has no camera, one a poor line. */
function mixed(count: number): Participant[] {
  return people(count, (number) => ({
    is_speaking: number === 2,
    has_microphone: number % 3 !== 1,
    has_camera: number % 7 !== 4,
    line: number === 5 ? "poor" : "good",
    trust: number === 3 ? "verified" : "unknown",
  }));
}

const TALK = [
  [1, "Good evening! Can you hear the piano?"],
  [2, "Loud and clear. A little quieter than last week, maybe."],
  [0, "I have moved the microphone. Better now?"],
  [2, "Much better."],
  [3, "The new second voice is in the file that I am sending. Please print it, and bring a pencil on Thursday: bars 14 to 22 have changed again."],
  [1, "Danke 🎶"],
  [0, "From the top, then!"],
] as const;

function talk(all: readonly Participant[]): State["said"] {
  const said = TALK.map(([who, text], at) => text_said(at + 1, all[who] ?? person(who), text));
  const sender = all[3] ?? person(3);
  const file = { ...text_said(20, sender, ""), unix_ms: 1_764_500_150_000, what: { kind: "file", name: "Second voice, third version.pdf", bytes: 1_843_200, done: 0.4, state: "coming" } as const };
  const whole = { ...text_said(21, sender, ""), unix_ms: 1_764_500_160_000, what: { kind: "file", name: "piano.ogg", bytes: 913_000, done: 1, state: "here" } as const };
  return [...said.slice(0, 5), file, whole, ...said.slice(5).map((each, at) => ({ ...each, id: 30 + at, unix_ms: 1_764_500_200_000 + at * 30_000 }))];
}

const press = (selector: string): void => {
  document.querySelector<HTMLElement>(selector)?.click();
};
const menu_entry = (at: number): void => {
  press(".anchor > .control[title=More]");
  [...document.querySelectorAll<HTMLElement>(".popup.menu > button:not(.only-narrow)")][at]?.click();
};

export const SCENES: Readonly<Record<string, (engine: Scripted) => void>> = {
  "no-link": (engine) => { engine.set(FIRST); },
  "no-link-trouble": (engine) => {
    engine.set({ ...FIRST, phase: { kind: "no-link", why: { what: "This link cannot be read.", why: "Its end is missing: a link is often cut where a line breaks.", todo: "Copy it again from the message, all of it." } } });
  },
  door: (engine) => { engine.set({ ...FIRST, phase: DOOR("room") }); },
  "door-ready": (engine) => {
    engine.set({ ...FIRST, phase: DOOR("room"), me: { ...FIRST.me, name: "Ada Okafor" }, people: [person(0)], mine: ON, devices: DEVICES });
    engine.set_levels({ [person(0).device]: 0.32 });
  },
  "door-person": (engine) => { engine.set({ ...FIRST, phase: DOOR("person"), me: { ...FIRST.me, name: "Ada Okafor" }, devices: DEVICES, mine: { microphone: "on", camera: "off", screen: "off" } }); },
  "door-relay": (engine) => { engine.set({ ...FIRST, phase: DOOR("relay") }); },
  "entering-relay": (engine) => { engine.set({ ...FIRST, phase: { kind: "entering", step: "relay" } }); },
  "entering-knocking": (engine) => { engine.set({ ...FIRST, phase: { kind: "entering", step: "knocking" } }); },
  over: (engine) => { engine.set({ ...FIRST, phase: { kind: "over", may_come_back: true } }); },
  "over-trouble": (engine) => {
    engine.set({ ...FIRST, phase: { kind: "over", may_come_back: false, why: { what: "You were put out of the call.", why: "A host of the room did so.", todo: "If that was a mistake, ask them over another way." } } });
  },
  alone: (engine) => { engine.set(call(people(1))); },
  two: (engine) => { engine.set(call(mixed(2))); },
  three: (engine) => { engine.set(call(mixed(3))); },
  six: (engine) => { engine.set(call(mixed(6))); },
  ten: (engine) => { engine.set(call(mixed(10))); },
  fifty: (engine) => { engine.set(call(mixed(50))); },
  screen: (engine) => { engine.set(call(mixed(6).map((each, at) => (at === 2 ? { ...each, has_screen: true } : each)))); },
  chat: (engine) => {
    const all = mixed(6);
    engine.set(call(all, { said: talk(all) }));
    press("[data-panel=chat]");
  },
  "chat-empty": (engine) => {
    engine.set(call(mixed(4)));
    press("[data-panel=chat]");
  },
  people: (engine) => {
    engine.set(call(mixed(6), { knocking: [{ identity: person(8).identity, name: "Noah Berg", has_link: true }, { identity: person(9).identity, name: "", has_link: false }] }));
    press("[data-panel=people]");
  },
  menu: (engine) => {
    engine.set(call(mixed(3)));
    press(".anchor > .control[title=More]");
  },
  reactions: (engine) => {
    engine.set(call(mixed(4), { reactions: [{ id: 1, from: person(1).device, emoji: "👏" }] }));
    press(".anchor > .control[title=React]");
  },
  verify: (engine) => {
    engine.set(call(mixed(3)));
    press("[data-panel=people]");
    press(".person:nth-child(2) button");
  },
  "verify-changed": (engine) => {
    engine.set(call(mixed(3).map((each, at) => (at === 2 ? { ...each, trust: "changed" } : each))));
    press("[data-panel=people]");
    press(".person:nth-child(3) button");
  },
  safety: (engine) => {
    engine.set(call(mixed(3)));
    press(".seal");
  },
  invite: (engine) => {
    engine.set(call(mixed(3)));
    menu_entry(0);
  },
  "invite-not-woken": (engine) => {
    engine.is_woken = { can: false, on: false, why: { what: "This page cannot be woken: it was opened from a file.", todo: "Open it from the relay, if your relay serves it." } };
    engine.set(call(mixed(3)));
    menu_entry(0);
  },
  devices: (engine) => {
    engine.set(call(mixed(3)));
    engine.set_levels({ [person(0).device]: 0.2 });
    menu_entry(2);
  },
  shortcuts: (engine) => {
    engine.set(call(mixed(3)));
    menu_entry(4);
  },
  figures: (engine) => {
    engine.set(call(mixed(3)));
    menu_entry(5);
  },
  "put-out": (engine) => {
    engine.set(call(mixed(3)));
    press("[data-panel=people]");
    press(".person:nth-child(2) button:last-child");
  },
  ring: (engine) => { engine.set(call(mixed(4), { ringing: [{ id: 7, identity: person(8).identity, name: "Noah Berg", room: "Tenors" }] })); },
  knock: (engine) => { engine.set(call(mixed(4), { knocking: [{ identity: person(8).identity, name: "Noah Berg", has_link: true }] })); },
  alarms: (engine) => {
    engine.set(call(mixed(4).map((each, at) => (at === 2 ? { ...each, trust: "changed" } : at === 1 ? { ...each, is_here: false } : each)), {
      line: "lost",
      notices: [
        { key: "fork", level: "alarm", trouble: { what: "Not everybody is in the same call.", why: "Somebody's keys differ from yours.", todo: "Compare the number of this call by voice." }, action: { name: "look", label: "Show the number" } },
        { key: "update", level: "info", trouble: { what: "The relay is being renewed.", todo: "The call goes on; there may be a second of silence." } },
      ],
    }));
  },
  sharing: (engine) => { engine.set(call(mixed(3), { mine: { ...ON, screen: "on" } })); },
};
