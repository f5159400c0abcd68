/**
 * An engine for tests of the screens, and for nothing else: it is not the page's engine, and nothing in it goes anywhere. A
 * test says what the state is, and reads what the screens asked for. Cameras are drawings.
 */
import type { Device, Engine, Figures, Participant, Said, State, Trouble, Waking } from "../../contract.ts";
import { draw_face, draw_slide } from "./drawings.ts";

export interface Asked {
  readonly what: string;
  readonly by: readonly unknown[];
}

const NUMBER = "30417 55920 18836 94012 77345 20981 66403 11728 58390 42167 90534 28871";
const NAMES = ["Ada Okafor", "Jonas Lindqvist", "Mei Tanaka", "Samir Haddad", "Lucía Fernández", "Tomasz Nowak", "Priya Raman", "Elif Demir", "Noah Berg", "Amara Diallo", "Ines Rocha"];

export function person(number: number, change: Partial<Participant> = {}): Participant {
  const identity = `sn-id-${(number * 2654435761 + 97).toString(36)}k7q2w9x4`;
  return {
    device: number.toString(16).padStart(8, "0"),
    identity,
    name: NAMES[number] ?? `Guest ${number}`,
    is_me: number === 0,
    is_host: number === 0,
    trust: "unknown",
    has_microphone: true,
    has_camera: true,
    has_screen: false,
    is_speaking: false,
    line: "good",
    is_here: true,
    ...change,
  };
}

export function people(count: number, change: (number: number) => Partial<Participant> = () => ({})): Participant[] {
  return Array.from({ length: count }, (_, number) => person(number, change(number)));
}

export function text_said(id: number, from: Participant, text: string, unix_ms = 1_764_500_000_000 + id * 20_000): Said {
  return { id, from: from.device, identity: from.identity, name: from.name, unix_ms, what: { kind: "text", text } };
}

export const FIRST: State = {
  phase: { kind: "no-link" },
  me: { identity: person(0).identity, name: "", fingerprint: "9f2c 44d1 07ab e3b0 51c8 6d2e 90fa 1b77" },
  room_name: "",
  people: [person(0, { has_microphone: false, has_camera: false })],
  knocking: [],
  ringing: [],
  said: [],
  reactions: [],
  mine: { microphone: "off", camera: "off", screen: "off" },
  devices: { microphones: [{ id: "m1", label: "" }], cameras: [{ id: "c1", label: "" }], speakers: [] },
  lobby: true,
  line: "good",
  notices: [],
};

export const DEVICES: State["devices"] = {
  microphones: [{ id: "m1", label: "Built-in microphone" }, { id: "m2", label: "Headset" }],
  cameras: [{ id: "c1", label: "Front camera" }],
  speakers: [{ id: "s1", label: "Built-in speakers" }],
  microphone: "m1",
  camera: "c1",
  speaker: "s1",
};

export const RELAY = "relay.example.org:4433";

export class Scripted implements Engine {
  readonly asked: Asked[] = [];
  /** Canvases that are lent to this engine. */
  readonly lent = new Map<string, HTMLCanvasElement>();
  /** What the next call of a method fails with. */
  readonly failures = new Map<string, Trouble>();
  is_woken: Waking = { can: true, on: false };
  #state: State = FIRST;
  readonly #listeners = new Set<(state: State) => void>();
  readonly #level_listeners = new Set<(levels: ReadonlyMap<Device, number>) => void>();

  get state(): State {
    return this.#state;
  }

  /** Changes the state as an engine would: what is not named stays the same object. */
  set(change: Partial<State>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of [...this.#listeners]) listener(this.#state);
  }

  /** Changes one person. */
  set_person(number: number, change: Partial<Participant>): void {
    this.set({ people: this.#state.people.map((each, at) => (at === number ? { ...each, ...change } : each)) });
  }

  set_levels(levels: Readonly<Record<Device, number>>): void {
    for (const listener of this.#level_listeners) listener(new Map(Object.entries(levels)));
  }

  subscribe(listener: (state: State) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  subscribe_levels(listener: (levels: ReadonlyMap<Device, number>) => void): () => void {
    this.#level_listeners.add(listener);
    return () => this.#level_listeners.delete(listener);
  }

  get listeners(): number {
    return this.#listeners.size + this.#level_listeners.size;
  }

  #ask(what: string, ...by: readonly unknown[]): Promise<void> {
    this.asked.push({ what, by });
    const failure = this.failures.get(what);
    this.failures.delete(what);
    // As the contract has it, a promise fails with a Trouble.
    // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
    return failure === undefined ? Promise.resolve() : Promise.reject(failure);
  }

  open_link(text: string): Promise<void> { return this.#ask("open_link", text); }
  set_name(name: string): void { void this.#ask("set_name", name); }
  async prepare(): Promise<void> {
    await this.#ask("prepare");
    this.set({ mine: { ...this.#state.mine, microphone: "on", camera: "on" }, devices: DEVICES });
  }
  choose(kind: "microphone" | "camera" | "speaker", id: string): Promise<void> { return this.#ask("choose", kind, id); }
  enter(): Promise<void> { return this.#ask("enter"); }
  leave(): Promise<void> { return this.#ask("leave"); }
  async set_microphone(on: boolean): Promise<void> {
    await this.#ask("set_microphone", on);
    this.#mine("microphone", on);
  }
  async set_camera(on: boolean): Promise<void> {
    await this.#ask("set_camera", on);
    this.#mine("camera", on);
  }
  async set_screen(on: boolean): Promise<void> {
    await this.#ask("set_screen", on);
    this.#mine("screen", on);
  }
  #mine(kind: "microphone" | "camera" | "screen", on: boolean): void {
    const me = this.#state.people.map((each) => (each.is_me ? { ...each, [`has_${kind}`]: on } : each));
    this.set({ mine: { ...this.#state.mine, [kind]: on ? "on" : "off" }, people: me });
  }

  show(who: Device, what: "camera" | "screen", canvas: HTMLCanvasElement | undefined): void {
    const key = `${who} ${what}`;
    if (canvas === undefined) {
      this.lent.delete(key);
      return;
    }
    if (!canvas.isConnected) throw new Error("a canvas was given that is not in the document");
    this.lent.set(key, canvas);
    const number = parseInt(who, 16);
    // Every fourth has a phone, which stands upright.
    const is_upright = number % 4 === 3;
    canvas.width = what === "screen" ? 1280 : is_upright ? 360 : 640;
    canvas.height = what === "screen" ? 720 : is_upright ? 480 : 360;
    if (what === "screen") draw_slide(canvas);
    else draw_face(canvas, number);
  }

  say(text: string): Promise<void> { return this.#ask("say", text); }
  react(emoji: string): Promise<void> { return this.#ask("react", emoji); }
  offer_file(file: File): Promise<void> { return this.#ask("offer_file", file.name, file.size); }
  save_file(said: number): Promise<void> { return this.#ask("save_file", said); }
  admit(who: string): Promise<void> { return this.#ask("admit", who); }
  turn_away(who: string): Promise<void> { return this.#ask("turn_away", who); }
  set_lobby(on: boolean): void {
    void this.#ask("set_lobby", on);
    this.set({ lobby: on });
  }
  kick(who: string): Promise<void> { return this.#ask("kick", who); }
  answer(ring: number): Promise<void> { return this.#ask("answer", ring); }
  decline(ring: number): Promise<void> { return this.#ask("decline", ring); }
  async person_number(who: string): Promise<string> {
    await this.#ask("person_number", who);
    return NUMBER;
  }
  async set_verified(who: string, verified: boolean): Promise<void> {
    await this.#ask("set_verified", who, verified);
    this.set({ people: this.#state.people.map((each) => (each.identity === who ? { ...each, trust: verified ? "verified" : "unknown" } : each)) });
  }
  async room_link(): Promise<string> {
    await this.#ask("room_link");
    return `https://relay.example.org/call#supernode://${RELAY}/?pin=vnvgvjX7C2mBq0n4c1yq6cJm2xQzQm2mR8rN3v0w5dE&room=4wq1C3kPzT0yVJ7m2sQH8a9dXeLrUoNbKfGiWtYvMhA&token=eyJ0eXAiOiJKV1QiLCJhbGciOiJFZERTQSJ9`;
  }
  async ticket_link(): Promise<string> {
    await this.#ask("ticket_link");
    return `https://relay.example.org/call#supernode://${RELAY}/?pin=vnvgvjX7C2mBq0n4c1yq6cJm2xQzQm2mR8rN3v0w5dE&ticket=sn-ticket-2k9d8f7s6a5p4o3i2u1y`;
  }
  waking(): Promise<Waking> {
    return this.#ask("waking").then(() => this.is_woken);
  }
  async set_waking(on: boolean): Promise<void> {
    await this.#ask("set_waking", on);
    this.is_woken = { ...this.is_woken, on };
  }
  come_when_rung(): Promise<void> { return this.#ask("come_when_rung"); }
  act(notice: string): Promise<void> { return this.#ask("act", notice); }
  figures(): Promise<Figures> {
    return Promise.resolve({ heard: 15_203, concealed: 12, seen: 8_922, mouth_to_ear_ms_p50: 86.4, silence_ms_max: 60, rtt_ms: 23, memory_bytes: 61_000_000 });
  }
}
