/** What the screens are shown, put together from what the worker tells and what the page knows. */
import type {
  Device,
  Devices,
  Identity,
  Knocking,
  Notice,
  Participant,
  Phase,
  Ringing,
  Said,
  State,
  Trouble,
  Trust,
} from "../contract.ts";
import type { Kept, OwnState, Person, Pictured, RingShown, Told } from "./messages.ts";

/** Louder than this is speech: some -39 dB. */
const SPEAKING = 0.35;
const SPEAKING_FOR_MS = 500;
const REACTIONS_FOR_MS = 4000;
/** Lines of the chat that are kept. */
const SAID_MAX = 1000;
const NAME_CHARACTERS_MAX = 64;
/** Where nobody sees the page, it is told of changes by a timer. */
const HIDDEN_MS = 200;

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

const NOBODY: Kept = { identity: "", device: "", fingerprint: "", name: "", verified: new Map() };

export class Model {
  #state: State = {
    phase: { kind: "no-link" },
    me: { identity: "", name: "", fingerprint: "" },
    room_name: "",
    people: [],
    knocking: [],
    ringing: [],
    said: [],
    reactions: [],
    mine: { microphone: "off", camera: "off", screen: "off" },
    devices: { microphones: [], cameras: [], speakers: [] },
    lobby: false,
    line: "good",
    notices: [],
  };
  #kept = NOBODY;
  #people: readonly Person[] = [];
  readonly #arrival = new Map<Device, number>();
  readonly #verified = new Map<Identity, string>();
  readonly #spoke_at = new Map<Device, number>();
  #rings: readonly RingShown[] = [];
  #own_lobby = false;
  #arrivals = 0;
  #reactions = 0;
  readonly #listeners = new Set<(state: State) => void>();
  #is_due = false;

  get state(): State {
    return this.#state;
  }

  get me(): { readonly device: Device; readonly name: string } {
    return { device: this.#kept.device, name: this.#state.me.name };
  }

  get mine(): State["mine"] {
    return this.#state.mine;
  }

  get devices(): Devices {
    return this.#state.devices;
  }

  /** How we are, as others are told. */
  get own(): OwnState {
    const { microphone, camera, screen } = this.#state.mine;
    const name = this.#state.me.name;
    return { name, microphone: microphone === "on", camera: camera === "on", screen: screen === "on", lobby: this.#own_lobby };
  }

  subscribe(listener: (state: State) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  // ---- ours

  set_kept(kept: Kept): void {
    this.#kept = kept;
    kept.verified.forEach((name, identity) => this.#verified.set(identity, name));
    this.#change({ me: { identity: kept.identity, name: kept.name, fingerprint: kept.fingerprint } });
    this.#show_people();
  }

  set_name(name: string): void {
    const kept = Array.from(name).slice(0, NAME_CHARACTERS_MAX).join("").trim();
    this.#change({ me: { ...this.#state.me, name: kept } });
    this.#show_people();
  }

  set_phase(phase: Phase): void {
    this.#change({ phase });
    this.#show_people();
  }

  set_in(room_name: string): void {
    this.#change({ phase: { kind: "in" }, room_name });
  }

  set_over(why: Trouble | undefined, may_come_back: boolean): void {
    this.#people = [];
    this.#arrival.clear();
    this.#own_lobby = false;
    this.#change({
      phase: { kind: "over", may_come_back, ...(why === undefined ? {} : { why }) },
      knocking: [],
      lobby: false,
      notices: [],
      reactions: [],
    });
    this.#forget_number();
    this.#show_people();
  }

  set_mine(what: "microphone" | Pictured, how: "off" | "starting" | "on"): void {
    this.#change({ mine: { ...this.#state.mine, [what]: how } });
    this.#show_people();
  }

  set_own_lobby(on: boolean): void {
    this.#own_lobby = on;
    this.#change({ lobby: on });
  }

  set_devices(found: readonly MediaDeviceInfo[]): void {
    const of = (kind: MediaDeviceKind) =>
      found.filter((device) => device.kind === kind && device.deviceId !== "").map((device) => ({ id: device.deviceId, label: device.label }));
    const devices: Mutable<Devices> = { microphones: of("audioinput"), cameras: of("videoinput"), speakers: of("audiooutput") };
    const { microphone, camera, speaker } = this.#state.devices;
    // What was chosen and is gone is chosen no more.
    if (microphone !== undefined && devices.microphones.some((device) => device.id === microphone)) {
      devices.microphone = microphone;
    }
    if (camera !== undefined && devices.cameras.some((device) => device.id === camera)) {
      devices.camera = camera;
    }
    if (speaker !== undefined && devices.speakers.some((device) => device.id === speaker)) {
      devices.speaker = speaker;
    }
    this.#change({ devices });
  }

  choose(kind: "microphone" | "camera" | "speaker", id: string): void {
    this.#change({ devices: { ...this.#state.devices, [kind]: id } });
  }

  /** Returns what they are called. */
  set_verified(who: Identity, verified: boolean): string {
    const name = this.#people.find((person) => person.identity === who)?.name ?? this.#verified.get(who) ?? "";
    this.#verified.delete(who);
    if (verified) {
      this.#verified.set(who, name);
    }
    this.#show_people();
    return name;
  }

  set_levels(levels: ReadonlyMap<Device, number>): void {
    const now = performance.now();
    levels.forEach((level, device) => {
      if (level > SPEAKING) {
        this.#spoke_at.set(device, now);
      }
    });
    this.#show_people();
  }

  knocks_of(who: Identity): number[] {
    return this.#rings.filter((ring) => ring.kind === "knock" && ring.identity === who).map((ring) => ring.id);
  }

  file_name(said: number): string {
    const what = this.#state.said.find((line) => line.id === said)?.what;
    return what?.kind === "file" ? what.name : "file";
  }

  /** Waits until a file is here, or will not be. */
  async file_settled(said: number): Promise<void> {
    const is_coming = () => {
      const what = this.#state.said.find((line) => line.id === said)?.what;
      return what?.kind === "file" && (what.state === "offered" || what.state === "coming");
    };
    while (is_coming()) {
      await new Promise<void>((changed) => {
        const stop = this.subscribe(() => {
          stop();
          changed();
        });
      });
    }
  }

  drop_notice(key: string): void {
    this.#change({ notices: this.#state.notices.filter((notice) => notice.key !== key) });
  }

  // ---- what the worker tells

  handle(told: Told): void {
    switch (told.is) {
      case "step":
        if (this.#state.phase.kind === "entering") {
          this.#change({ phase: { kind: "entering", step: told.step } });
        }
        break;
      case "people":
        this.#people = told.people;
        this.#show_people();
        break;
      case "said":
        this.#change({ said: [...this.#state.said.slice(1 - SAID_MAX), told.said] });
        break;
      case "file":
        this.#change({ said: this.#state.said.map((line) => (line.id === told.id ? with_progress(line, told.done, told.state) : line)) });
        break;
      case "reaction":
        this.#show_reaction(told.from, told.emoji);
        break;
      case "rings":
        this.#show_rings(told.rings);
        break;
      case "line":
        this.#change({ line: told.line });
        this.#show_people();
        break;
      case "keys_changed":
        this.#forget_number();
        this.#change(told.safety_number === undefined ? {} : { safety_number: told.safety_number });
        break;
      case "warning":
        this.#show_notice(warning(told.kind, this.#name_of(told.identity)));
        break;
      case "healed":
        this.drop_notice("split");
        break;
      case "notice":
        this.#show_notice(told);
        break;
    }
  }

  /** Those in the call; before it, ourselves. */
  get #everybody(): readonly Person[] {
    if (this.#kept === NOBODY || this.#people.length > 0) {
      return this.#people;
    }
    const { device, identity } = this.#kept;
    return [{ device, identity, is_here: true, is_me: true, is_host: false, is_poor: false, ...this.own }];
  }

  #show_people(): void {
    const everybody = this.#everybody;
    for (const person of everybody) {
      if (!this.#arrival.has(person.device)) {
        this.#arrival.set(person.device, person.is_me ? -1 : (this.#arrivals += 1));
      }
    }
    const now = performance.now();
    const before = new Map(this.#state.people.map((person) => [person.device, person]));
    const people = everybody
      .map((person) => same(before.get(person.device), this.#participant(person, now)))
      .sort((a, b) => (this.#arrival.get(a.device) ?? 0) - (this.#arrival.get(b.device) ?? 0));
    const is_same = people.length === this.#state.people.length && people.every((person, at) => person === this.#state.people[at]);
    const lobby = this.#own_lobby || this.#people.some((person) => person.is_host && person.is_here && person.lobby);
    if (!is_same || lobby !== this.#state.lobby) {
      this.#change({ people, lobby });
    }
  }

  #participant(person: Person, now: number): Participant {
    const mine = this.#state.mine;
    return {
      device: person.device,
      identity: person.identity,
      name: person.is_me ? this.#state.me.name : person.name,
      is_me: person.is_me,
      is_host: person.is_host,
      trust: this.#trust(person),
      has_microphone: person.is_me ? mine.microphone === "on" : person.microphone,
      has_camera: person.is_me ? mine.camera === "on" : person.camera,
      has_screen: person.is_me ? mine.screen === "on" : person.screen,
      is_speaking: now - (this.#spoke_at.get(person.device) ?? -Infinity) < SPEAKING_FOR_MS,
      line: person.is_me ? this.#state.line : !person.is_here ? "lost" : person.is_poor ? "poor" : "good",
      is_here: person.is_here,
    };
  }

  /** Whoever has the name of somebody with whom numbers were compared, and is not them, is to be looked at. */
  #trust(person: Person): Trust {
    if (person.is_me || this.#verified.has(person.identity)) {
      return "verified";
    }
    const name = person.name.toLocaleLowerCase();
    const is_taken = name !== "" && [...this.#verified.values()].some((known) => known.toLocaleLowerCase() === name);
    return is_taken ? "changed" : "unknown";
  }

  #show_rings(rings: readonly RingShown[]): void {
    this.#rings = rings;
    const knocks = new Map(rings.filter((ring) => ring.kind === "knock").map((ring) => [ring.identity, ring]));
    const knocking = [...knocks.values()].map(
      (ring): Knocking => ({ identity: ring.identity, name: this.#name_of(ring.identity), has_link: ring.has_link }),
    );
    const ringing = rings
      .filter((ring) => ring.kind !== "knock")
      .map((ring): Ringing => {
        const { id, identity } = ring;
        return { id, identity, name: this.#name_of(identity), ...(ring.kind === "invitation" ? { room: ring.room } : {}) };
      });
    this.#change({ knocking, ringing });
  }

  #show_reaction(from: Device, emoji: string): void {
    const id = (this.#reactions += 1);
    this.#change({ reactions: [...this.#state.reactions.slice(-30), { id, from, emoji }] });
    setTimeout(() => {
      this.#change({ reactions: this.#state.reactions.filter((reaction) => reaction.id !== id) });
    }, REACTIONS_FOR_MS);
  }

  #show_notice(notice: Notice): void {
    const loudness = { alarm: 0, warning: 1, info: 2 } as const;
    const { key, level, trouble, action } = notice;
    const shown: Notice = { key, level, trouble, ...(action === undefined ? {} : { action }) };
    const others = this.#state.notices.filter((known) => known.key !== key);
    if (others.length === this.#state.notices.length || level !== "alarm") {
      this.#change({ notices: [...others, shown].sort((a, b) => loudness[a.level] - loudness[b.level]) });
    }
  }

  #name_of(identity: Identity | undefined): string {
    const known = this.#people.find((person) => person.identity === identity)?.name;
    return known ?? (identity === undefined ? "" : (this.#verified.get(identity) ?? ""));
  }

  #forget_number(): void {
    const { safety_number: _number, ...state } = this.#state;
    this.#state = state;
  }

  #change(part: Partial<State>): void {
    this.#state = { ...this.#state, ...part };
    if (this.#is_due) {
      return;
    }
    this.#is_due = true;
    const tell = () => {
      this.#is_due = false;
      this.#listeners.forEach((listener) => {
        listener(this.#state);
      });
    };
    if (document.hidden) {
      setTimeout(tell, HIDDEN_MS);
    } else {
      requestAnimationFrame(tell);
    }
  }
}

/** The one before, if it says the same. */
function same(before: Participant | undefined, now: Participant): Participant {
  const keys = Object.keys(now) as (keyof Participant)[];
  return before !== undefined && keys.every((key) => before[key] === now[key]) ? before : now;
}

function with_progress(line: Said, done: number, state: "offered" | "coming" | "here" | "failed"): Said {
  return line.what.kind === "file" ? { ...line, what: { ...line.what, done, state } } : line;
}

function warning(kind: string, who: string): Notice {
  const name = who === "" ? "somebody" : who;
  switch (kind) {
    case "split":
      return {
        key: "split",
        level: "alarm",
        trouble: {
          what: `this call has been split: ${name} is in another one`,
          why: "the relay, or somebody in the call, keeps messages back; nothing is sent until all are in one again",
          todo: "leave and come in again, or go on with those who are here",
        },
        action: { name: "split", label: "Go on without them" },
      };
    case "wrong_door_key":
      return {
        key: "door",
        level: "warning",
        trouble: {
          what: "the room's door had a wrong key",
          why: `${name}, or the relay, gave it one; it was replaced`,
          todo: "leave if it happens again",
        },
      };
    default:
      return {
        key: "envelope",
        level: "warning",
        trouble: {
          what: "the relay said of a message what is not so",
          why: "it is at fault, or not honest; the message was dropped",
          todo: "tell whoever runs the relay if it happens again",
        },
      };
  }
}
