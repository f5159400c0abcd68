/** The worker: the wasm, the codecs, and the call. It answers what the page asks and tells what happens. */
import { Keys, Session, initSync, look_at_link, type Room } from "wasm:supernode_web";

import type { LinkShown, Trouble } from "../../contract.ts";
import type { Asked, FromPlayout, FromWorker, Kept, OwnState, RingShown, ToWorker, Told } from "../messages.ts";
import type { VoiceFigures } from "../sound/voice.ts";
import { Failure, of_anything } from "../trouble.ts";
import { sleep, unpack } from "./bytes.ts";
import { Call, type TrackShown } from "./call.ts";
import { abilities, abilities_of, type Codec } from "./codecs.ts";
import { SoundOut } from "./sound_out.ts";
import { Store, type Woken } from "./store.ts";
import { UNTOLD } from "./talk.ts";

/** How often it is told how loud everybody is. */
const LEVELS_EVERY_MS = 100;
/** A tab that nobody sees draws no frames by itself: then this says when one is due. */
const TICK_MS = 66;
/** Round trips above this are felt by everybody. */
const POOR_RTT_MS = 400;
/** A door at which nobody answers is knocked at again: whoever was there may just be moving, or be gone soon. */
const KNOCK_FOR_MS = 30_000;
const KNOCK_AGAIN_MS = 1000;
/** Troubles after which that is of use, by their names in the SDK's table. */
const MAY_BE_BACK = ["OFFLINE", "NO_KEY_PACKAGE", "LIMIT", "State", "TimedOut", "Disconnected"];
/** For names of devices: so that two pages of one profile are not one device. */
const LOCK = "supernode-device";
const ROOM_FOR_40 = false;
/** What is waited for once the relay is reached, by where a link leads. */
const STEPS = { room: "knocking", person: "ringing", relay: "keys" } as const;

/** What the wasm tells. */
type Event =
  | { readonly is: "disconnected" | "closed"; readonly trouble: Trouble }
  | { readonly is: "reconnected" | "roster" | "keys_changed" | "healed" | "interrupted" | "resumed" }
  | { readonly is: "rung"; readonly rung: string }
  | { readonly is: "clock_differs"; readonly skew: string }
  | ({ readonly is: "ring" } & RingShown)
  | { readonly is: "ring_over"; readonly id: number }
  | { readonly is: "admitted"; readonly identity: string }
  | { readonly is: "removed"; readonly identity: string; readonly by: string; readonly put_out: boolean; readonly is_us: boolean }
  | { readonly is: "track"; readonly track: TrackShown }
  | { readonly is: "track_ended"; readonly id: string }
  | { readonly is: "warning"; readonly kind: string; readonly identity: string | null }
  | { readonly is: "ended"; readonly end: string; readonly trouble: Trouble };

class Work implements Record<keyof Asked, (...args: never[]) => unknown> {
  #memory: WebAssembly.Memory | undefined;
  #store: Store | undefined;
  #keys: Keys | undefined;
  #session: { readonly session: Session; readonly link: string } | undefined;
  #call: Call | undefined;
  #abilities = abilities_of("vp8");
  readonly #sound = new SoundOut();
  #playout: MessagePort | undefined;
  #voices = new Map<string, VoiceFigures>();
  /** From what is mixed until it is heard. */
  #output_ms = 0;
  /** From what is decoded until it is drawn. */
  #drawn_ms = 0;
  readonly #rings = new Map<number, RingShown>();
  /** How we are, also while we are on our way into a call. */
  #own = UNTOLD;
  #rung = "FULL";
  #is_down = false;
  #said = 0;
  #wants_calls = false;
  /** Where this page is woken, if it is to be. */
  #woken: Woken | undefined;
  /** Those that came before the call was made known here. */
  #early: Event[] | undefined;

  async load(packed: string, forced: Codec | undefined): Promise<Kept> {
    this.#abilities = forced === undefined ? await abilities() : abilities_of(forced);
    this.#memory = initSync({ module: await unpack(packed) }).memory;
    const store = await Store.open();
    this.#store = store;
    const keys = await store.keys();
    const is_kept_device = await holds_lock();
    this.#keys = is_kept_device ? keys : keys.on_another_device();
    // Another page of this profile is another device, and there is one endpoint for all.
    this.#woken = is_kept_device ? await store.woken() : undefined;
    setInterval(() => {
      this.#tell_levels();
    }, LEVELS_EVERY_MS);
    setInterval(() => {
      if (this.#call?.pictures.camera.is_published === true || this.#call?.pictures.screen.is_published === true) {
        tell({ is: "tick" });
      }
    }, TICK_MS);
    const identity = this.#keys.identity();
    return {
      identity,
      device: this.#keys.device(),
      fingerprint: fingerprint(identity),
      name: await store.name(),
      verified: await store.verified(),
    };
  }

  async set_name(name: string): Promise<void> {
    await this.#store?.set_name(name);
  }

  look_at_link(text: string): LinkShown {
    return JSON.parse(look_at_link(text)) as LinkShown;
  }

  async enter(link: string, own: OwnState, room_name: string): Promise<{ room_name: string | undefined }> {
    this.#own = own;
    tell({ is: "step", step: "relay" });
    const session = await this.#connect(link);
    tell({ is: "step", step: STEPS[this.look_at_link(link).leads_to] });
    return await this.#go_in(() => this.#knock(session, room_name), session);
  }

  /** As long as somebody may be at the door in a moment. */
  async #knock(session: Session, room_name: string): Promise<Room> {
    const give_up_at = performance.now() + KNOCK_FOR_MS;
    for (;;) {
      try {
        return await session.enter(room_name, ROOM_FOR_40);
      } catch (error) {
        const may_be_back = MAY_BE_BACK.includes(trouble_of(error).name ?? "");
        if (!may_be_back || performance.now() > give_up_at || this.#session?.session !== session) {
          throw error;
        }
      }
      await sleep(KNOCK_AGAIN_MS);
    }
  }

  async answer(ring: number, own: OwnState): Promise<{ room_name: string | undefined }> {
    const session = this.#need_session();
    this.#own = own;
    await this.#leave_call();
    return await this.#go_in(() => session.answer(ring), session);
  }

  async leave(): Promise<void> {
    await this.#leave_call();
    if (!this.#wants_calls) {
      await this.#disconnect();
    }
  }

  async decline(ring: number): Promise<void> {
    await this.#need_session().decline(ring);
  }

  async admit(ring: number): Promise<void> {
    await this.#need_session().admit(ring);
  }

  async kick(identity: string): Promise<void> {
    await this.#need_call().room.remove_person(identity);
  }

  go_on(): void {
    this.#need_call().room.go_on();
  }

  tell_state(own: OwnState): void {
    this.#own = own;
    this.#sound.set_on(own.microphone);
    this.#call?.tell_state(own);
  }

  set_capture(port: MessagePort): void {
    this.#sound.set_port(port);
  }

  set_playout(port: MessagePort): void {
    this.#playout = port;
    port.onmessage = (event: MessageEvent<FromPlayout>) => {
      this.#voices = new Map(event.data.voices);
    };
  }

  set_latencies(sound_ms: number, picture_ms: number): void {
    this.#output_ms = sound_ms;
    this.#drawn_ms = picture_ms;
  }

  async publish_picture(what: "camera" | "screen", on: boolean): Promise<void> {
    await this.#call?.publish_picture(what, on);
  }

  want_picture(device: string, what: "camera" | "screen", height: number): void {
    this.#call?.want_picture(device, what, height);
  }

  async say(text: string): Promise<void> {
    await this.#need_call().say(text);
  }

  react(emoji: string): void {
    this.#need_call().react(emoji);
  }

  async offer_file(file: File): Promise<void> {
    await this.#need_call().offer_file(file);
  }

  file(said: number): Blob {
    const blob = this.#call?.file(said);
    if (blob === undefined) {
      throw new Failure({ what: "this file is not here", why: "it has not come whole, or the call is over", todo: "ask whoever sent it to send it again" });
    }
    return blob;
  }

  safety_number(): string | undefined {
    return this.#call?.room.safety_number();
  }

  person_number(identity: string): string {
    return this.#need_call().room.person_number(identity);
  }

  async set_verified(identity: string, name: string, verified: boolean): Promise<void> {
    await this.#store?.set_verified(identity, name, verified);
  }

  room_link(): string | undefined {
    return this.#call?.room.link();
  }

  async push_key(link: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    return (await this.#reach(link)).push_key();
  }

  async set_woken_by(link: string, endpoint: string | undefined): Promise<void> {
    const session = await this.#reach(link);
    await session.set_push_endpoint(endpoint);
    this.#woken = endpoint === undefined ? undefined : { link, endpoint };
    await this.#store?.set_woken(this.#woken);
  }

  woken_by(): string | undefined {
    return this.#woken?.link;
  }

  async ticket_link(link: string): Promise<string> {
    // Whoever opened a room is at its relay by another link: to connect anew would end the call.
    const session = await this.#reach(link);
    this.#wants_calls = true;
    await session.appear();
    return session.ticket_link();
  }

  figures() {
    const voices = [...this.#voices.values()];
    const of_call = this.#call?.is_over === false ? this.#call.figures() : undefined;
    return {
      heard: of_call?.heard ?? 0,
      seen: of_call?.seen ?? 0,
      sound_delays_ms: (of_call?.sound_delays_ms ?? []).map((delay) => delay + this.#stock_ms),
      concealed: voices.reduce((sum, voice) => sum + voice.concealed / 960, 0),
      silence_ms_max: voices.reduce((most, voice) => Math.max(most, voice.silence_max / 48), 0),
      rtt_ms: this.#session?.session.rtt_ms(),
      memory_bytes: this.#memory?.buffer.byteLength ?? 0,
      of_call: of_call?.of_call,
    };
  }

  looked_at(): string[] {
    return this.#call?.looked_at() ?? [];
  }

  sound_parts(): Record<string, number> {
    return { ...this.#call?.sound_parts(), stock: Math.round(this.#stock_ms) };
  }

  picture(what: "camera" | "screen", frame: VideoFrame): void {
    const call = this.#call;
    if (call === undefined || call.is_over) {
      frame.close();
    } else {
      call.take(what, frame);
    }
  }

  // ---- sessions and calls

  /** The session with the relay of this link: the one that there is, also if another link of that relay led to it. */
  async #reach(link: string): Promise<Session> {
    const now = this.#session;
    if (now !== undefined && this.look_at_link(now.link).relay === this.look_at_link(link).relay) {
      return now.session;
    }
    return await this.#connect(link);
  }

  async #connect(link: string): Promise<Session> {
    if (this.#session?.link === link) {
      return this.#session.session;
    }
    await this.#disconnect();
    const keys = this.#keys;
    if (keys === undefined) {
      throw new Error("not loaded");
    }
    const told = (json: string) => {
      this.#handle(JSON.parse(json) as Event);
    };
    const session = await Session.connect(keys, link, told);
    this.#is_down = false;
    this.#rung = "FULL";
    this.#session = { session, link };
    this.#tell_line();
    // A relay forgets it with its process, and after a month.
    const woken = this.#woken;
    if (woken !== undefined && this.look_at_link(woken.link).relay === this.look_at_link(link).relay) {
      session.set_push_endpoint(woken.endpoint).catch(() => undefined);
    }
    return session;
  }

  async #disconnect(): Promise<void> {
    const session = this.#session?.session;
    this.#session = undefined;
    this.#rings.clear();
    this.#tell_rings();
    await session?.close();
    session?.free();
  }

  async #go_in(enter: () => Promise<Room>, session: Session): Promise<{ room_name: string | undefined }> {
    await this.#leave_call();
    this.#early = [];
    try {
      const room = await enter();
      // A microphone may have been turned on at the door, while somebody there was asked.
      this.#sound.set_on(this.#own.microphone);
      const call = new Call(
        {
          abilities: this.#abilities,
          session,
          room,
          sound: this.#sound,
          playout: () => this.#playout,
          stock_ms: (voice) => (this.#voices.get(voice)?.stock ?? 0) / 48 + this.#output_ms,
          drawn_ms: () => this.#drawn_ms,
          tell,
          next_said: () => (this.#said += 1),
        },
        this.#own,
      );
      this.#call = call;
      call.handle_rung(this.#rung);
      await call.start().catch(async (error: unknown) => {
        await this.#leave_call();
        throw error;
      });
      const early = this.#early;
      this.#early = undefined;
      early.forEach((event) => {
        this.#handle(event);
      });
      return { room_name: room.name() };
    } finally {
      this.#early = undefined;
    }
  }

  async #leave_call(): Promise<void> {
    const call = this.#call;
    this.#call = undefined;
    if (call !== undefined && !call.is_over) {
      await call.leave().catch(() => undefined);
      await call.end();
    }
  }

  #need_session(): Session {
    if (this.#session === undefined) {
      throw new Failure({ what: "there is no connection to a relay", why: "you are not in a call", todo: "open a link first" });
    }
    return this.#session.session;
  }

  #need_call(): Call {
    if (this.#call === undefined || this.#call.is_over) {
      throw new Failure({ what: "you are in no call", why: "it is over, or has not begun", todo: "go in first" });
    }
    return this.#call;
  }

  // ---- what happens

  #handle(event: Event): void {
    if (this.#early !== undefined && ["roster", "track", "track_ended", "keys_changed", "warning", "ended"].includes(event.is)) {
      this.#early.push(event);
      return;
    }
    const call = this.#call;
    switch (event.is) {
      case "roster":
        call?.handle_roster();
        break;
      case "track":
        call?.handle_track(event.track);
        break;
      case "track_ended":
        call?.handle_track_ended(event.id);
        break;
      case "keys_changed":
        call?.handle_roster();
        if (call?.is_over === false) {
          tell({ is: "keys_changed", safety_number: call.room.safety_number() });
        }
        break;
      case "removed":
        call?.handle_roster();
        break;
      case "ended":
        this.#handle_over(event.end, event.trouble);
        break;
      case "closed":
        this.#session = undefined;
        this.#handle_over("SessionGone", event.trouble);
        break;
      case "disconnected":
      case "interrupted":
        this.#is_down = true;
        this.#tell_line();
        break;
      case "reconnected":
      case "resumed":
        this.#is_down = false;
        this.#tell_line();
        call?.handle_roster();
        break;
      case "rung":
        this.#rung = event.rung;
        call?.handle_rung(event.rung);
        this.#tell_line();
        break;
      case "ring":
        this.#rings.set(event.id, event);
        this.#tell_rings();
        break;
      case "ring_over":
        this.#rings.delete(event.id);
        this.#tell_rings();
        break;
      case "warning":
        tell({ is: "warning", kind: event.kind, identity: event.identity ?? undefined });
        break;
      case "healed":
        tell({ is: "healed" });
        break;
      case "clock_differs":
        tell({
          is: "notice",
          key: "clock",
          level: "warning",
          trouble: { what: "this device's clock and the relay's differ", why: event.skew, todo: "set the one that is wrong" },
        });
        break;
      case "admitted":
        break;
    }
  }

  #handle_over(end: string, trouble: Trouble): void {
    const call = this.#call;
    if (call !== undefined) {
      this.#call = undefined;
      void call.end();
      tell({ is: "over", end, trouble });
    }
  }

  #tell_line(): void {
    const rtt = this.#session?.session.rtt_ms() ?? 0;
    const line = this.#is_down ? "lost" : this.#rung !== "FULL" || rtt > POOR_RTT_MS ? "poor" : "good";
    tell({ is: "line", line });
  }

  #tell_rings(): void {
    tell({ is: "rings", rings: [...this.#rings.values()] });
  }

  #tell_levels(): void {
    const levels: [string, number][] = [];
    if (this.#sound.packets > 0 && this.#keys !== undefined) {
      levels.push([this.#keys.device(), this.#sound.level]);
    }
    for (const [id, sound] of this.#call?.sounds ?? []) {
      levels.push([id.slice(0, id.indexOf(":")), sound.level]);
    }
    if (levels.length > 0) {
      tell({ is: "levels", levels });
    }
  }

  /** How long what is decoded waits to be played, on average. */
  get #stock_ms(): number {
    const voices = [...this.#voices.values()];
    return voices.length === 0 ? 0 : voices.reduce((sum, voice) => sum + voice.stock, 0) / voices.length / 48;
  }
}

/** Eight groups of four characters of a public name: enough to know one's own by. */
function fingerprint(identity: string): string {
  return (identity.replace(/^sn-id-/, "").slice(0, 32).match(/.{1,4}/g) ?? []).join(" ");
}

/** Whether this page is the one of this profile that is the kept device. Where there are no locks, it is. */
async function holds_lock(): Promise<boolean> {
  const locks = (navigator as { locks?: LockManager }).locks;
  if (locks === undefined) {
    return true;
  }
  return await new Promise<boolean>((good) => {
    const held = locks.request(LOCK, { ifAvailable: true }, (lock) => {
      good(lock !== null);
      // Held as long as this page is open.
      return lock === null ? undefined : new Promise(() => undefined);
    });
    held.catch(() => {
      good(true);
    });
  });
}

function tell(told: Told, transfer: Transferable[] = []): void {
  scope.postMessage({ told } satisfies FromWorker, transfer);
}

/** What was thrown, as people are told. */
function trouble_of(error: unknown): Trouble & { readonly name?: string } {
  if (typeof error === "string") {
    return JSON.parse(error) as Trouble & { readonly name: string };
  }
  const { what, why, todo } = of_anything(error);
  return { what, ...(why === undefined ? {} : { why }), ...(todo === undefined ? {} : { todo }) };
}

const scope = self as unknown as { postMessage(message: FromWorker, transfer: Transferable[]): void };
const worker = new Work();

self.onmessage = (event: MessageEvent<ToWorker>) => {
  const message = event.data;
  if ("picture" in message) {
    worker.picture(message.picture, message.frame);
    return;
  }
  const asked = worker[message.ask].bind(worker) as (...args: readonly unknown[]) => unknown;
  const answer = async () => await asked(...message.args);
  answer().then(
    (value) => {
      scope.postMessage({ answers: message.id, value }, []);
    },
    (error: unknown) => {
      scope.postMessage({ answers: message.id, trouble: trouble_of(error) }, []);
    },
  );
};
