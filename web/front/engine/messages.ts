/** What the page and its worker tell each other. */
import type { Device, Identity, LinkShown, Trouble } from "../contract.ts";
import type { Codec } from "./worker/codecs.ts";

/** What a camera or a screen shows. */
export type Pictured = "camera" | "screen";

/** Somebody in the call, as far as the worker knows. */
export interface Person {
  readonly device: Device;
  readonly identity: Identity;
  readonly is_here: boolean;
  readonly is_me: boolean;
  readonly is_host: boolean;
  readonly name: string;
  readonly microphone: boolean;
  readonly camera: boolean;
  readonly screen: boolean;
  readonly lobby: boolean;
  /** Their sound has holes. */
  readonly is_poor: boolean;
}

/** Who we are, and what was kept of earlier calls. */
export interface Kept {
  readonly identity: Identity;
  readonly device: Device;
  readonly fingerprint: string;
  readonly name: string;
  /** With whom numbers were compared, and what they were called then. */
  readonly verified: ReadonlyMap<Identity, string>;
}

/** How we are, as others are told. */
export interface OwnState {
  readonly name: string;
  readonly microphone: boolean;
  readonly camera: boolean;
  readonly screen: boolean;
  readonly lobby: boolean;
}

export interface WorkerFigures {
  readonly heard: number;
  readonly concealed: number;
  readonly seen: number;
  readonly sound_delays_ms: readonly number[];
  readonly silence_ms_max: number;
  readonly rtt_ms: number | undefined;
  readonly memory_bytes: number;
  readonly of_call: unknown;
}

/** What the page asks of its worker. */
export interface Asked {
  /** `forced` says of this browser that it can show and make this, for tests. */
  load(packed: string, forced: Codec | undefined): Kept;
  set_name(name: string): void;
  look_at_link(text: string): LinkShown;
  enter(link: string, own: OwnState, room_name: string): { readonly room_name: string | undefined };
  leave(): void;
  answer(ring: number, own: OwnState): { readonly room_name: string | undefined };
  decline(ring: number): void;
  admit(ring: number): void;
  kick(identity: Identity): void;
  go_on(): void;
  tell_state(own: OwnState): void;
  /** Sound of ours comes by this port, in packets. */
  set_capture(port: MessagePort): void;
  /** What others say goes to this port. */
  set_playout(port: MessagePort): void;
  /** From what is mixed until it is heard, and from what is decoded until it is drawn. */
  set_latencies(sound_ms: number, picture_ms: number): void;
  publish_picture(what: Pictured, on: boolean): void;
  /** Whose pictures are to be seen, and how large: in pixels of height. */
  want_picture(device: Device, what: Pictured, height: number): void;
  say(text: string): void;
  react(emoji: string): void;
  offer_file(file: File): void;
  file(said: number): Blob;
  safety_number(): string | undefined;
  person_number(identity: Identity): string;
  set_verified(identity: Identity, name: string, verified: boolean): void;
  room_link(): string | undefined;
  ticket_link(link: string): string;
  /** By which key push services know the relay of this link, if it wakes pages. */
  push_key(link: string): Uint8Array<ArrayBuffer> | undefined;
  /** Tells that relay where this page is woken, or that it is no more, and keeps it. */
  set_woken_by(link: string, endpoint: string | undefined): void;
  /** The link to come back by when this page was woken, if it is to be. */
  woken_by(): string | undefined;
  figures(): WorkerFigures;
  /** Which of others' pictures are looked at, by track and codec. */
  looked_at(): string[];
  /** What the delay of sound is made of, in milliseconds: by their names. */
  sound_parts(): Record<string, number>;
}

/** What the worker tells. */
export type Told =
  | { readonly is: "step"; readonly step: "relay" | "knocking" | "ringing" | "keys" }
  | { readonly is: "people"; readonly people: readonly Person[] }
  | { readonly is: "said"; readonly said: SaidByWorker }
  | { readonly is: "file"; readonly id: number; readonly done: number; readonly state: "offered" | "coming" | "here" | "failed" }
  | { readonly is: "reaction"; readonly from: Device; readonly emoji: string }
  | { readonly is: "levels"; readonly levels: readonly (readonly [Device, number])[] }
  | { readonly is: "picture"; readonly device: Device; readonly what: Pictured; readonly frame: VideoFrame; readonly given_at_ms: number }
  | { readonly is: "picture_wanted"; readonly what: Pictured; readonly height: number; readonly fps: number }
  | { readonly is: "rings"; readonly rings: readonly RingShown[] }
  | { readonly is: "line"; readonly line: "good" | "poor" | "lost" }
  | { readonly is: "keys_changed"; readonly safety_number: string | undefined }
  | { readonly is: "warning"; readonly kind: string; readonly identity: Identity | undefined }
  | { readonly is: "healed" }
  | { readonly is: "over"; readonly end: string; readonly trouble: Trouble }
  | { readonly is: "notice"; readonly key: string; readonly level: "warning" | "info"; readonly trouble: Trouble }
  | { readonly is: "tick" };

export interface SaidByWorker {
  readonly id: number;
  readonly from: Device;
  readonly identity: Identity;
  readonly name: string;
  readonly unix_ms: number;
  readonly what:
    | { readonly kind: "text"; readonly text: string }
    | { readonly kind: "file"; readonly name: string; readonly bytes: number; readonly done: number; readonly state: "offered" };
}

export interface RingShown {
  readonly id: number;
  readonly identity: Identity;
  readonly kind: "call" | "invitation" | "knock";
  readonly room: string;
  readonly has_link: boolean;
}

/** To the worker: a question, or a picture of ours. */
export type ToWorker =
  | { readonly ask: keyof Asked; readonly id: number; readonly args: readonly unknown[] }
  | { readonly picture: Pictured; readonly frame: VideoFrame };

/** From the worker: an answer, or something that happened. */
export type FromWorker =
  | { readonly answers: number; readonly value: unknown }
  | { readonly answers: number; readonly trouble: Trouble }
  | { readonly told: Told };

/** From the worklet that captures: a packet, and when its last sample was there. Unix time: the worklet has no other clock. */
export interface Captured {
  readonly samples: Float32Array<ArrayBuffer>;
  readonly until_ms: number;
}

/** To the worklet that plays, from the worker. */
export type ToPlayout =
  | { readonly voice: string; readonly samples: Float32Array<ArrayBuffer> }
  | { readonly voice: string; readonly missing: number }
  | { readonly voice: string; readonly over: true };

/** From the worklet, now and then: of each voice. */
export interface FromPlayout {
  readonly voices: readonly (readonly [string, import("./sound/voice.ts").VoiceFigures])[];
}
