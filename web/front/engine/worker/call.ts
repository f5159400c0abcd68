/** A call or a room that we are in: whose tracks are where, who is how, and what becomes of it. */
import type { Incoming, Room, Session } from "wasm:supernode_web";

import type { Device, Identity } from "../../contract.ts";
import type { OwnState, Person, Pictured, SaidByWorker, Told, WorkerFigures } from "../messages.ts";
import { Failure } from "../trouble.ts";
import { sleep } from "./bytes.ts";
import { codec_for, type Abilities, type Codec } from "./codecs.ts";
import { FILE_BYTES_MAX, FILE_CODEC, FileIn, send_file } from "./files.ts";
import { PictureIn } from "./picture_in.ts";
import { PictureOut, SORTS } from "./picture_out.ts";
import { Width, size_to_see } from "./sizes.ts";
import { PACKET_MS, SoundIn } from "./sound_in.ts";
import type { SoundOut } from "./sound_out.ts";
import { CHAT_CODEC, TALK_CODEC, TalkOut, UNTOLD, listen_to_chat, listen_to_talk, type Heard, type ToldState } from "./talk.ts";

/** A track of somebody's, as the wasm tells it. */
export interface TrackShown {
  readonly id: string;
  readonly device: Device;
  readonly identity: Identity;
  readonly kind: "audio" | "video" | "screen" | "data";
  readonly name: string;
  readonly codec: string;
  readonly parameters: string;
}

interface Place {
  readonly device: Device;
  readonly identity: Identity;
  readonly is_here: boolean;
  readonly is_me: boolean;
  readonly is_host: boolean;
}

/** Files of others that are known of at a time. */
const FILES_MAX = 100;
/** Sound of which more than this part is missing is poor. */
const POOR_SHARE = 0.03;
const LOOK_EVERY_MS = 3000;
/** Longest to wait until the others have our goodbye, and until the relay knows. */
const GOODBYE_MS = 700;
const LEAVING_MS = 1500;
/** What could not be subscribed to is tried again, for the relay may have been busy for a moment. */
const TRIES_MAX = 5;
const AGAIN_MS = 1000;
/** A track that ended without its mark is waited for: the SDK's grace, and a little. */
const GONE_AFTER_MS = 20_000;
/** With so many other pages in the call, some may show us large and others small. */
const SIZES_FROM = 2;
/** In a larger call all pictures are small. */
const SIZES_PEOPLE_MAX = 9;

export interface CallParts {
  readonly abilities: Abilities;
  readonly session: Session;
  readonly room: Room;
  readonly sound: SoundOut;
  readonly playout: () => MessagePort | undefined;
  /** How long what a voice is given now waits until it is heard. */
  readonly stock_ms: (voice: string) => number;
  /** How long what is decoded now takes until it is drawn. */
  readonly drawn_ms: () => number;
  readonly tell: (told: Told, transfer?: Transferable[]) => void;
  readonly next_said: () => number;
}

export class Call {
  readonly #parts: CallParts;
  readonly #talk: TalkOut;
  readonly pictures: Readonly<Record<keyof typeof SORTS, PictureOut>>;
  /** What of ours is being published or taken back, one after the other. */
  readonly #turns = new Map<Pictured, Promise<void>>();
  /** What is to be published. */
  readonly #on = new Set<Pictured>();
  #own: OwnState;
  #roster: readonly Place[] = [];
  readonly #tracks = new Map<string, TrackShown>();
  readonly #told = new Map<Device, ToldState>();
  /** Data that is listened to; nothing yet for what is just being asked for. */
  readonly #listened = new Map<string, Incoming | undefined>();
  readonly sounds = new Map<string, SoundIn>();
  readonly #seen = new Map<string, PictureIn>();
  readonly #wanted = new Map<string, number>();
  readonly #files = new Map<string, { readonly said: number; readonly file: FileIn }>();
  readonly #poor = new Set<Device>();
  readonly #counted = new Map<string, { heard: number; missing: number }>();
  readonly #looking: ReturnType<typeof setInterval>;
  #abilities: Abilities;
  readonly #width = new Width();
  #is_narrow = false;
  is_over = false;

  constructor(parts: CallParts, own: OwnState) {
    this.#parts = parts;
    this.#own = own;
    this.#abilities = parts.abilities;
    this.#talk = new TalkOut(parts.room, own, parts.abilities.shows_av1);
    const camera = () => {
      this.#tell_wanted("camera", [this.pictures.camera, this.pictures.small]);
    };
    const screen = () => {
      this.#tell_wanted("screen", [this.pictures.screen]);
    };
    const slow = () => {
      this.#abilities = { ...this.#abilities, makes_av1_well: false };
      this.#choose_codec();
    };
    this.pictures = {
      camera: new PictureOut(SORTS.camera, camera, slow),
      small: new PictureOut(SORTS.small, camera, slow),
      // Always VP8: what is on a screen has few frames, and is to be clear at once.
      screen: new PictureOut(SORTS.screen, screen, slow),
    };
    this.#looking = setInterval(() => {
      this.#look_at_sound();
      this.#look_at_width();
    }, LOOK_EVERY_MS);
  }

  get room(): Room {
    return this.#parts.room;
  }

  async start(): Promise<void> {
    await this.#talk.start();
    await this.#parts.sound.publish(this.room);
    this.handle_roster();
    this.#parts.tell({ is: "keys_changed", safety_number: this.room.safety_number() });
  }

  /** Everybody but us who is connected. */
  get others(): number {
    return this.#roster.filter((place) => place.is_here && !place.is_me).length;
  }

  handle_roster(): void {
    if (this.is_over) {
      return;
    }
    this.#roster = JSON.parse(this.room.roster()) as Place[];
    const devices = new Set(this.#roster.map((place) => place.device));
    for (const [id, track] of this.#tracks) {
      if (!devices.has(track.device)) {
        this.handle_track_ended(id);
        this.#forget(id);
      }
    }
    for (const device of this.#told.keys()) {
      if (!devices.has(device)) {
        this.#told.delete(device);
      }
    }
    this.pictures.camera.set_people(this.#roster.length);
    this.#choose_codec();
    this.#offer_small();
    this.#tell_people();
  }

  /** A track is there; it may be told of twice. */
  handle_track(track: TrackShown): void {
    this.#tracks.set(track.id, track);
    this.#begin_track(track, 1);
    this.#tell_people();
  }

  #begin_track(track: TrackShown, tries: number): void {
    this.#take_track(track).catch(() => {
      this.#forget(track.id);
      setTimeout(() => {
        // Gone meanwhile, or told of anew.
        if (tries < TRIES_MAX && !this.is_over && this.#tracks.get(track.id) === track) {
          this.#begin_track(track, tries + 1);
        }
      }, AGAIN_MS);
    });
  }

  /** Somebody whose connection broke comes back with the same track, or not at all. */
  handle_track_ended(id: string): void {
    const track = this.#tracks.get(id);
    this.#tracks.delete(id);
    this.#tell_people();
    if (track?.kind === "video") {
      // The other size of it may be there still.
      this.#look_again(track.device, "video");
    }
    setTimeout(() => {
      if (!this.#tracks.has(id)) {
        this.#forget(id);
      }
    }, GONE_AFTER_MS);
  }

  async #take_track(track: TrackShown): Promise<void> {
    const room = this.room;
    if (track.kind === "audio") {
      await this.#hear(track);
    } else if (track.kind === "video" || track.kind === "screen") {
      await this.#look(track.device, track.kind);
    } else if (track.codec === TALK_CODEC) {
      const heard = (what: Heard) => {
        this.#handle_told(track, what);
      };
      await this.#listen(track.id, () => listen_to_talk(room, track.id, heard));
    } else if (track.codec === CHAT_CODEC) {
      const heard = (text: string) => {
        this.#parts.tell({ is: "said", said: this.#said(track, { kind: "text", text }) });
      };
      await this.#listen(track.id, () => listen_to_chat(room, track.id, heard));
    } else if (track.codec === FILE_CODEC) {
      await this.#begin_file(track.id);
    }
  }

  /** Once for each track: one that is there again after a reconnect, or is told of twice, is listened to already. */
  async #listen(id: string, begin: () => Promise<Incoming>): Promise<void> {
    if (this.#listened.has(id)) {
      return;
    }
    this.#listened.set(id, undefined);
    const incoming = await begin();
    if (this.#listened.has(id)) {
      this.#listened.set(id, incoming);
    } else {
      incoming.free();
    }
  }

  async #hear(track: TrackShown): Promise<void> {
    const before = this.sounds.get(track.id);
    if (before !== undefined && !before.is_over) {
      return;
    }
    const sound = new SoundIn(track.id, track.parameters, this.#parts.playout, () => this.#parts.stock_ms(track.id));
    this.sounds.set(track.id, sound);
    await sound.start(this.room);
  }

  /** Whose pictures are to be seen, and in how many lines. */
  want_picture(device: Device, what: Pictured, height: number): void {
    const kind = what === "camera" ? "video" : "screen";
    this.#wanted.set(`${device} ${kind}`, height);
    this.#look_again(device, kind);
  }

  /** The relay leaves out so much of what it sends us. */
  handle_rung(rung: string): void {
    this.#width.handle_rung(rung, performance.now());
    this.#look_at_width();
  }

  #look_at_width(): void {
    const is_narrow = this.#width.is_narrow(performance.now());
    if (is_narrow !== this.#is_narrow) {
      this.#is_narrow = is_narrow;
      for (const device of new Set([...this.#tracks.values()].map((track) => track.device))) {
        this.#look_again(device, "video");
      }
    }
  }

  #look_again(device: Device, kind: "video" | "screen", tries = 1): void {
    this.#look(device, kind).catch(() => {
      setTimeout(() => {
        if (tries < TRIES_MAX && !this.is_over) {
          this.#look_again(device, kind, tries + 1);
        }
      }, AGAIN_MS);
    });
  }

  async #look(device: Device, kind: "video" | "screen"): Promise<void> {
    if ((this.#wanted.get(`${device} ${kind}`) ?? 0) === 0) {
      this.#look_away(device, kind, undefined);
      return;
    }
    const track = this.#to_see(device, kind);
    const before = track === undefined ? undefined : this.#seen.get(track.id);
    if (track === undefined || (before !== undefined && !before.is_over)) {
      return;
    }
    const what = kind === "video" ? "camera" : "screen";
    const show = (frame: VideoFrame) => {
      // What was seen of them so far was seen until now.
      if (track.id === this.#to_see(device, kind)?.id) {
        this.#look_away(device, kind, track.id);
      }
      this.#parts.tell({ is: "picture", device, what, frame, given_at_ms: performance.timeOrigin + performance.now() }, [frame]);
    };
    const picture = new PictureIn(track.id, track.codec, show, {
      heard_at_ms: (place_us) => this.#heard_at_ms(device, place_us),
      drawn_ms: this.#parts.drawn_ms,
    });
    this.#seen.set(track.id, picture);
    try {
      await picture.start(this.room, what === "screen");
    } catch (error) {
      this.#forget(track.id);
      throw error;
    }
  }

  #to_see(device: Device, kind: "video" | "screen"): TrackShown | undefined {
    const height = this.#wanted.get(`${device} ${kind}`) ?? 0;
    const tracks = [...this.#tracks.values()].filter((track) => track.device === device && track.kind === kind);
    return height === 0 ? undefined : size_to_see(tracks, height, this.#is_narrow);
  }

  /** Looks at no other of somebody's pictures than this one. */
  #look_away(device: Device, kind: "video" | "screen", except: string | undefined): void {
    for (const track of this.#tracks.values()) {
      if (track.device === device && track.kind === kind && track.id !== except) {
        this.#seen.get(track.id)?.stop();
        this.#seen.delete(track.id);
      }
    }
  }

  /** When somebody's sound of this place is heard. Of pages, whose tracks are on one time line: a program's may not be. */
  #heard_at_ms(device: Device, place_us: number): number | undefined {
    const sounds = this.#told.has(device) ? [...this.sounds] : [];
    return sounds.find(([id, sound]) => id.startsWith(device) && !sound.is_over)?.[1].heard_at_ms(place_us);
  }

  #forget(id: string): void {
    this.sounds.get(id)?.stop();
    this.sounds.delete(id);
    this.#seen.get(id)?.stop();
    this.#seen.delete(id);
    this.#listened.get(id)?.free();
    this.#listened.delete(id);
    this.#files.get(id)?.file.fail();
  }

  #handle_told(track: TrackShown, what: Heard): void {
    if (what.is === "state") {
      this.#told.set(track.device, what);
      this.#choose_codec();
      this.#offer_small();
      this.#tell_people();
    } else if (what.is === "reaction") {
      this.#parts.tell({ is: "reaction", from: track.device, emoji: what.emoji });
    } else {
      this.#handle_offer(track, what);
    }
  }

  // ---- files

  #handle_offer(track: TrackShown, offer: Heard & { is: "file" }): void {
    const id = `${track.device}:${offer.id}`;
    if (this.#files.has(id) || this.#files.size >= FILES_MAX) {
      return;
    }
    const { name, bytes } = offer;
    const said = this.#said(track, { kind: "file", name, bytes, done: 0, state: "offered" });
    const file = new FileIn(offer, (done, state) => {
      this.#parts.tell({ is: "file", id: said.id, done, state });
    });
    this.#files.set(id, { said: said.id, file });
    this.#parts.tell({ is: "said", said });
    this.#begin_file(id).catch(() => {
      file.fail();
    });
  }

  /** When both the offer and the track are there, whichever comes first. */
  async #begin_file(id: string): Promise<void> {
    const file = this.#files.get(id)?.file;
    if (file !== undefined && this.#tracks.has(id) && !file.is_begun) {
      const kept = [...this.#files.values()].reduce((sum, { file }) => sum + (file.is_begun ? file.offer.bytes : 0), 0);
      await file.start(this.room, id, kept);
    }
  }

  file(said: number): Blob | undefined {
    return [...this.#files.values()].find((known) => known.said === said)?.file.blob;
  }

  async offer_file(file: File): Promise<void> {
    if (file.size > FILE_BYTES_MAX) {
      const limit = `${FILE_BYTES_MAX / 1024 / 1024} MiB`;
      throw new Failure({ what: "this file is too large to be sent", why: `files go through the room, at most ${limit} each`, todo: "send it by another way" });
    }
    const { device, identity } = this.#me;
    const said = this.#said({ device, identity }, { kind: "file", name: file.name, bytes: file.size, done: 0, state: "offered" });
    this.#parts.tell({ is: "said", said });
    const progress = (done: number, state: "offered" | "coming" | "here" | "failed") => {
      this.#parts.tell({ is: "file", id: said.id, done, state });
    };
    // It goes on by itself.
    send_file(this.room, file, this.others, (offer) => void this.#talk.offer_file(offer), progress).catch(() => {
      progress(0, "failed");
    });
    await Promise.resolve();
  }

  // ---- ours

  tell_state(own: OwnState): void {
    this.#own = own;
    this.#talk.tell_state(own);
    this.#tell_people();
  }

  async say(text: string): Promise<void> {
    if (!(await this.#talk.say(text, this.others))) {
      throw new Failure({ what: "this could not be said", why: "the connection is down or stuck", todo: "try again in a moment" });
    }
    this.#parts.tell({ is: "said", said: this.#said(this.#me, { kind: "text", text }) });
  }

  react(emoji: string): void {
    this.#talk.react(emoji);
    this.#parts.tell({ is: "reaction", from: this.#me.device, emoji });
  }

  /** One after the other: what is asked for last holds in the end, and nothing is published twice. */
  async publish_picture(what: Pictured, on: boolean): Promise<void> {
    this.#on[on ? "add" : "delete"](what);
    const before = this.#turns.get(what) ?? Promise.resolve();
    const turn = before.catch(() => undefined).then(() => this.#set_published(what, on));
    this.#turns.set(what, turn);
    await turn;
  }

  async #set_published(what: Pictured, on: boolean): Promise<void> {
    const picture = this.pictures[what];
    if (on && !picture.is_published && !this.is_over) {
      await picture.publish(this.room, what === "camera" ? this.#codec : "vp8");
      this.#offer_small();
    } else if (!on) {
      // Its last frames go out by themselves: whoever turns it on again meanwhile need not wait for them.
      for (const ended of what === "camera" ? [picture, this.pictures.small] : [picture]) {
        ended.end().catch(() => undefined);
      }
    }
  }

  /** What all who are in can show, and we can make. */
  get #codec(): Codec {
    return codec_for(this.#abilities, this.#roster.filter((place) => place.is_here && !place.is_me).map((place) => this.#told.get(place.device)));
  }

  /** Another codec is another track: who looks goes over to it. Also after it could not be published when it was to be. */
  #choose_codec(): void {
    const { camera } = this.pictures;
    const is_due = () => this.#on.has("camera") && !this.is_over && (!camera.is_published || camera.codec !== this.#codec);
    const again = async () => {
      if (is_due()) {
        await this.#set_published("camera", false);
        await this.#set_published("camera", true);
      }
    };
    if (is_due()) {
      const before = this.#turns.get("camera") ?? Promise.resolve();
      this.#turns.set("camera", before.then(again, again).catch(() => undefined));
    }
  }

  /** Which of others' pictures are looked at, by track and codec, for tests. */
  looked_at(): string[] {
    const tracks = [...this.#seen].flatMap(([id, picture]) => (picture.is_over ? [] : (this.#tracks.get(id) ?? [])));
    return tracks.map(({ name, codec }) => `${name} ${codec}`);
  }

  /** Once several pages may show us, our camera can be had in a small picture as well. Nobody makes it before it is wanted. */
  #offer_small(): void {
    const { camera, small } = this.pictures;
    const is_of_use = () => camera.is_published && !small.is_published && this.#told.size >= SIZES_FROM && this.#roster.length <= SIZES_PEOPLE_MAX;
    if (!is_of_use()) {
      return;
    }
    const before = this.#turns.get("camera") ?? Promise.resolve();
    const turn = before.catch(() => undefined).then(async () => {
      if (is_of_use() && !this.is_over) {
        await small.publish(this.room, this.#codec);
      }
    });
    // The relay may allow no more tracks: then there is one size.
    this.#turns.set("camera", turn.catch(() => undefined));
  }

  /** The camera gives one kind of frames for both of its sizes. */
  #tell_wanted(what: Pictured, pictures: readonly PictureOut[]): void {
    const wanted = pictures.map((picture) => picture.wanted).filter(({ fps }) => fps > 0);
    const height = Math.max(...(wanted.length > 0 ? wanted : pictures.map((picture) => picture.wanted)).map(({ height }) => height));
    this.#parts.tell({ is: "picture_wanted", what, height, fps: Math.max(0, ...wanted.map(({ fps }) => fps)) });
  }

  /** Takes a frame of ours and closes it. */
  take(what: Pictured, frame: VideoFrame): void {
    if (what === "camera" && this.pictures.small.wanted.fps > 0) {
      this.pictures.small.take(frame.clone());
    }
    this.pictures[what].take(frame);
  }

  async leave(): Promise<void> {
    // To end one's tracks is to say goodbye: of a call of two the other would wait for us otherwise.
    await Promise.race([this.#end_tracks(), sleep(GOODBYE_MS)]);
    await Promise.race([this.room.leave(), sleep(LEAVING_MS)]);
  }

  async #end_tracks(): Promise<void> {
    const pictures = Object.values(this.pictures).map((picture) => picture.end());
    await Promise.allSettled([this.#talk.end(), this.#parts.sound.end(), ...pictures]);
  }

  /** After it is over, by whatever. */
  async end(): Promise<void> {
    if (this.is_over) {
      return;
    }
    this.is_over = true;
    clearInterval(this.#looking);
    for (const id of [...this.sounds.keys(), ...this.#seen.keys(), ...this.#listened.keys()]) {
      this.#forget(id);
    }
    for (const { file } of this.#files.values()) {
      file.fail();
    }
    await this.#end_tracks();
    this.room.free();
  }

  // ---- what is told

  get #me(): { readonly device: Device; readonly identity: Identity } {
    const me = this.#roster.find((place) => place.is_me);
    return { device: me?.device ?? "", identity: me?.identity ?? "" };
  }

  #said(from: { readonly device: Device; readonly identity: Identity }, what: SaidByWorker["what"]): SaidByWorker {
    const name = from.device === this.#me.device ? this.#own.name : (this.#told.get(from.device)?.name ?? "");
    return { id: this.#parts.next_said(), from: from.device, identity: from.identity, name, unix_ms: Date.now(), what };
  }

  /** Whether whoever has the link is looked at first, as a host says. */
  get has_lobby(): boolean {
    return this.#people().some((person) => person.is_host && person.is_here && person.lobby);
  }

  #people(): Person[] {
    return this.#roster.map((place) => {
      const tracks = [...this.#tracks.values()].filter((track) => track.device === place.device);
      const has = (kind: string) => tracks.some((track) => track.kind === kind);
      const told = this.#told.get(place.device);
      const how: OwnState = place.is_me
        ? this.#own
        : // A program tells nothing: what it sends is on.
          { ...(told ?? UNTOLD), microphone: told?.microphone ?? has("audio"), camera: has("video"), screen: has("screen") };
      return { ...place, ...how, is_poor: this.#poor.has(place.device) };
    });
  }

  #tell_people(): void {
    if (!this.is_over) {
      this.#parts.session.set_lobby(this.has_lobby);
      this.#parts.tell({ is: "people", people: this.#people() });
    }
  }

  #look_at_sound(): void {
    let changed = false;
    for (const [id, sound] of this.sounds) {
      const device = id.slice(0, id.indexOf(":"));
      const before = this.#counted.get(id) ?? { heard: 0, missing: 0 };
      const [heard, missing] = [sound.heard - before.heard, sound.missing - before.missing];
      this.#counted.set(id, { heard: sound.heard, missing: sound.missing });
      const is_poor = missing > POOR_SHARE * (heard + missing) && missing > 2;
      if (is_poor !== this.#poor.has(device)) {
        changed = true;
        this.#poor[is_poor ? "add" : "delete"](device);
      }
    }
    if (changed) {
      this.#tell_people();
    }
  }

  /** Medians of all voices. */
  sound_parts(): { from_sealed: number; jitter: number; picture_ahead: number } {
    const sounds = [...this.sounds.values()].filter((sound) => !sound.is_over);
    const median = (all: number[]) => Math.round(all.sort((a, b) => a - b)[all.length >> 1] ?? 0);
    const from_sealed = sounds.flatMap((sound) => sound.delays_ms.map((delay) => delay - PACKET_MS));
    const picture_ahead = median([...this.#seen.values()].map((picture) => picture.ahead_ms));
    return { from_sealed: median(from_sealed), jitter: median(sounds.map((sound) => sound.jitter_ms)), picture_ahead };
  }

  figures(): Pick<WorkerFigures, "heard" | "seen" | "sound_delays_ms" | "of_call"> {
    const sounds = [...this.sounds.values()];
    return {
      heard: sounds.reduce((sum, sound) => sum + sound.heard, 0),
      seen: [...this.#seen.values()].reduce((sum, picture) => sum + picture.seen, 0),
      sound_delays_ms: sounds.flatMap((sound) => sound.delays_ms),
      of_call: JSON.parse(this.room.figures()),
    };
  }
}
