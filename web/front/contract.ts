/**
 * What people see and do, and what carries it out: the one seam between the screens (`ui/`) and the engine (`engine/`, whose
 * greater part runs in a worker: protocol, groups, seals and codecs).
 *
 * The screens are given a whole `State` after each change, and say what a person wants by the engine's methods. They never
 * hold a key, a link's secret or a byte of media. Whatever text comes from others (`name`, chat, names of files) is text:
 * it is shown by `textContent` and by nothing else.
 */

/** A person's public name, as the programs print it. */
export type Identity = string;
/** One device in a room, by its key in hexadecimal: the same through a reconnect, and two for whoever is in twice. */
export type Device = string;

/** What stands between somebody and a call. */
export type Phase =
  /** No link, or none that can be read. */
  | { readonly kind: "no-link"; readonly why?: Trouble }
  /** A link is there; nobody has been asked for anything yet. */
  | { readonly kind: "door"; readonly link: LinkShown }
  /** On the way in: reaching the relay, then knocking, which lasts until a member opens, or ringing, until they answer. */
  | { readonly kind: "entering"; readonly step: "relay" | "knocking" | "ringing" | "keys" }
  | { readonly kind: "in" }
  /** The call is over for us: by our wish, or because of something that `why` says. */
  | { readonly kind: "over"; readonly why?: Trouble; readonly may_come_back: boolean };

/** What a link says that may be shown. Its secrets stay in the engine. */
export interface LinkShown {
  /** Host and port of the relay. */
  readonly relay: string;
  /** Into a room; to ring a person; or to a relay only, where a room can be opened. */
  readonly leads_to: "room" | "person" | "relay";
  /** Whom a ticket's link rings. */
  readonly person?: Identity;
}

/** Something that went wrong, in words for the person: what happened, why as far as known, what to do. */
export interface Trouble {
  readonly what: string;
  readonly why?: string;
  readonly todo?: string;
}

/** How somebody's line is, or ours. */
export type Line = "good" | "poor" | "lost";

/** Whether the person behind a device is who we think. */
export type Trust =
  /** Never compared. */
  | "unknown"
  /** Somebody compared numbers with them, and it is the same identity since. */
  | "verified"
  /** Somebody of that name was here before, with another identity: a warning that cannot be overlooked. */
  | "changed";

/** Somebody in the call, ourselves too (`is_me`). */
export interface Participant {
  readonly device: Device;
  readonly identity: Identity;
  /** What they call themselves, at most 64 characters, without control characters; empty if they have not said. */
  readonly name: string;
  readonly is_me: boolean;
  /** May put others out. */
  readonly is_host: boolean;
  readonly trust: Trust;
  readonly has_microphone: boolean;
  readonly has_camera: boolean;
  readonly has_screen: boolean;
  /** Heard in the last half second. */
  readonly is_speaking: boolean;
  readonly line: Line;
  /** Connected to the room. Somebody who is not has a place still and may come back. */
  readonly is_here: boolean;
}

/** Somebody at the door who wants to be looked at first. */
export interface Knocking {
  readonly identity: Identity;
  readonly name: string;
  /** Whether they have the room's link. */
  readonly has_link: boolean;
}

/** Somebody rings us. */
export interface Ringing {
  readonly id: number;
  readonly identity: Identity;
  readonly name: string;
  /** Into a call of two, or into a room of this name. */
  readonly room?: string;
}

/** A line of the chat, a reaction or a file, in the order in which they came. */
export interface Said {
  /** Counts up; never used twice. */
  readonly id: number;
  readonly from: Device;
  readonly identity: Identity;
  readonly name: string;
  readonly unix_ms: number;
  readonly what:
    | { readonly kind: "text"; readonly text: string }
    | {
        readonly kind: "file";
        readonly name: string;
        readonly bytes: number;
        /** From 0 to 1; of a file of ours how much has been sent. */
        readonly done: number;
        readonly state: "offered" | "coming" | "here" | "failed";
      };
}

/** A device that takes or gives sound or pictures. */
export interface MediaDevice {
  readonly id: string;
  readonly label: string;
}

/** Which devices there are and which are used; empty labels until the person has allowed access. */
export interface Devices {
  readonly microphones: readonly MediaDevice[];
  readonly cameras: readonly MediaDevice[];
  readonly speakers: readonly MediaDevice[];
  readonly microphone?: string;
  readonly camera?: string;
  readonly speaker?: string;
}

/** Something to be seen until it is over or closed, the loudest first. */
export interface Notice {
  /** The same notice has the same key. */
  readonly key: string;
  readonly level: "alarm" | "warning" | "info";
  readonly trouble: Trouble;
  /** What a person may do about it, by `Engine.act`. */
  readonly action?: { readonly name: string; readonly label: string };
}

/** Everything that the screens show. A new object after each change; parts that did not change are the same objects. */
export interface State {
  readonly phase: Phase;
  readonly me: { readonly identity: Identity; readonly name: string; readonly fingerprint: string };
  /** What the room is called by whoever opened it. */
  readonly room_name: string;
  /** Ourselves first, from the door on, then in the order in which they came. */
  readonly people: readonly Participant[];
  readonly knocking: readonly Knocking[];
  readonly ringing: readonly Ringing[];
  readonly said: readonly Said[];
  /** Reactions of the last seconds. */
  readonly reactions: readonly { readonly id: number; readonly from: Device; readonly emoji: string }[];
  /** What is on of ours. `starting` while the device is being asked for. */
  readonly mine: {
    readonly microphone: "off" | "starting" | "on";
    readonly camera: "off" | "starting" | "on";
    readonly screen: "off" | "starting" | "on";
  };
  readonly devices: Devices;
  /** Whether everybody with the link comes in by themselves, or a member looks first. */
  readonly lobby: boolean;
  readonly line: Line;
  /** 60 digits in groups of five, the same for everybody in the call; changes with its keys. */
  readonly safety_number?: string;
  readonly notices: readonly Notice[];
}

/** Whether this page is woken when somebody rings while it is closed. */
export interface Waking {
  readonly can: boolean;
  readonly on: boolean;
  /** Why it cannot. */
  readonly why?: Trouble;
}

/** Figures for whoever looks under the hood, and for tests. */
export interface Figures {
  readonly heard: number;
  readonly concealed: number;
  readonly seen: number;
  /** From a member's microphone until here, by their clock and ours compared through the relay's; in milliseconds. */
  readonly mouth_to_ear_ms_p50?: number;
  readonly silence_ms_max: number;
  readonly rtt_ms?: number;
  readonly memory_bytes?: number;
}

/** What the screens ask for. A promise that fails does so with a `Trouble`. */
export interface Engine {
  readonly state: State;
  /** Calls back after each change, on the page's thread, at most once a frame; returns how to stop. */
  subscribe(listener: (state: State) => void): () => void;
  /** Ours while preparing, and of everybody in the call: 0 to 1, some ten times a second. */
  subscribe_levels(listener: (levels: ReadonlyMap<Device, number>) => void): () => void;

  /** Takes a link: of this page's fragment, or typed. */
  open_link(text: string): Promise<void>;
  set_name(name: string): void;
  /** Asks for access if need be, and turns on the microphone and the camera, as far as there are any: our picture can be
   *  shown and our level seen before the call. What is on at the door is on inside. */
  prepare(): Promise<void>;
  choose(kind: "microphone" | "camera" | "speaker", id: string): Promise<void>;

  /** Goes in: into the room, or opens one at the relay, or rings the person. */
  enter(): Promise<void>;
  leave(): Promise<void>;

  /** At the door too, as the camera. The screens call these three in the click itself, for browsers ask only then. */
  set_microphone(on: boolean): Promise<void>;
  set_camera(on: boolean): Promise<void>;
  set_screen(on: boolean): Promise<void>;

  /** Shows somebody's camera or screen in this canvas until `undefined` or another is given; its backing size is the
   *  engine's business, by the size in which it is shown, and has the picture's proportions: the screens cut or frame it,
   *  and mirror our own. A canvas that was given stays in the document until it is taken back. */
  show(who: Device, what: "camera" | "screen", canvas: HTMLCanvasElement | undefined): void;

  say(text: string): Promise<void>;
  react(emoji: string): Promise<void>;
  offer_file(file: File): Promise<void>;
  /** Saves a file; fetches it first, if it has only been offered. */
  save_file(said: number): Promise<void>;

  admit(who: Identity): Promise<void>;
  turn_away(who: Identity): Promise<void>;
  set_lobby(on: boolean): void;
  kick(who: Identity): Promise<void>;
  answer(ring: number): Promise<void>;
  decline(ring: number): Promise<void>;

  /** 60 digits for us and another person, the same on both sides and for ever. */
  person_number(who: Identity): Promise<string>;
  /** A person has compared: kept on this device; `false` takes it back. */
  set_verified(who: Identity, verified: boolean): Promise<void>;

  /** A link of this page into the room that we are in, to be given to others. */
  room_link(): Promise<string>;
  /** A link of this page by which whoever has it may ring us. */
  ticket_link(): Promise<string>;

  /** Connects to the relay, to ask whether it wakes pages. */
  waking(): Promise<Waking>;
  /** Called in the click itself. */
  set_waking(on: boolean): Promise<void>;
  /** Somebody rang while this page was closed: comes online by the link that it was left with, so that they get through. */
  come_when_rung(): Promise<void>;

  act(notice: string): Promise<void>;
  figures(): Promise<Figures>;
}
