/** What pages tell each other beside sound and picture, from one end: PROTOCOL section 12.7. */
import { read_line, read_talk, write_talk, type Incoming, type Outgoing, type Room } from "wasm:supernode_web";

import type { Device } from "../../contract.ts";
import type { OwnState } from "../messages.ts";
import { fresh_id } from "./bytes.ts";

export const TALK_CODEC = "supernode-talk/1";
export const CHAT_CODEC = "text";
/** Nothing said is given up before this. */
const TTL_MS = 10_000;
/** What was not taken is said again after so long. */
const AGAIN_MS = 200;
/** Longest to wait for those who are to hear a first line. */
const LISTENERS_MS = 3000;

/** What somebody told. */
export type Heard =
  | { readonly is: "state"; readonly name: string; readonly microphone: boolean; readonly camera: boolean; readonly screen: boolean; readonly lobby: boolean; readonly av1: boolean }
  | { readonly is: "reaction"; readonly emoji: string }
  | { readonly is: "file"; readonly id: string; readonly name: string; readonly bytes: number; readonly sha256: string };

/** Our side. */
export class TalkOut {
  readonly #room: Room;
  #talk: Outgoing | undefined;
  #chat: Outgoing | undefined;
  #own: OwnState;
  /** How many ever began to listen, and how many of them have been told how we are. */
  #joined = 0;
  #told = 0;
  #telling: ReturnType<typeof setTimeout> | undefined;
  #chat_listeners = 0;

  readonly #shows_av1: boolean;

  constructor(room: Room, own: OwnState, shows_av1: boolean) {
    this.#room = room;
    this.#own = own;
    this.#shows_av1 = shows_av1;
  }

  async start(): Promise<void> {
    const told = (what: string, json?: string) => {
      this.#joined = demand_in(what, json)?.joined ?? this.#joined;
      this.#tell_newcomers();
    };
    this.#talk = await this.#room.publish(fresh_id(), "data", "talk", TALK_CODEC, new Uint8Array(), TTL_MS, told);
    // Somebody may have begun to listen before we know that there is something to hear.
    this.#tell_newcomers();
  }

  tell_state(own: OwnState): void {
    this.#own = own;
    this.#told = -1;
    this.#tell_newcomers();
  }

  /** Whoever is new knows nothing yet, even in the place of somebody who left: what comes from now on is for them as well. */
  #tell_newcomers(): void {
    clearTimeout(this.#telling);
    const joined = this.#joined;
    if (joined <= this.#told) {
      return;
    }
    if (this.#send({ is: "state", ...this.#own, av1: this.#shows_av1 })) {
      this.#told = joined;
    } else if (this.#talk?.is_dead() === false) {
      // So much waits for the connection that nothing more is taken.
      this.#telling = setTimeout(() => {
        this.#tell_newcomers();
      }, AGAIN_MS);
    }
  }

  react(emoji: string): void {
    this.#send({ is: "reaction", emoji });
  }

  offer_file(file: { id: string; name: string; bytes: number; sha256: string }): boolean {
    return this.#send({ is: "file", ...file });
  }

  /** A line for all, programs as well. Those who do not listen within moments of the first one miss it. */
  async say(text: string, others: number): Promise<boolean> {
    const line = new TextEncoder().encode(text);
    if (this.#chat === undefined) {
      const told = (what: string, json?: string) => {
        this.#chat_listeners = demand_in(what, json)?.subscribers ?? this.#chat_listeners;
      };
      this.#chat = await this.#room.publish(fresh_id(), "data", "chat", CHAT_CODEC, new Uint8Array(), TTL_MS, told);
      const give_up_at = performance.now() + LISTENERS_MS;
      while (this.#chat_listeners < others && performance.now() < give_up_at) {
        await new Promise((done) => setTimeout(done, 20));
      }
    }
    return this.#chat.send(line, 0, true, 0, 0, true);
  }

  async end(): Promise<void> {
    clearTimeout(this.#telling);
    const tracks = [this.#talk, this.#chat];
    this.#talk = undefined;
    this.#chat = undefined;
    await Promise.all(
      tracks.map(async (track) => {
        await track?.finish();
        track?.free();
      }),
    );
  }

  #send(message: Heard): boolean {
    const bytes = write_talk(JSON.stringify(message));
    return bytes !== undefined && this.#talk?.send(bytes, 0, true, 0, 0, true) === true;
  }
}

/** Listens to somebody's track until it ends; returns how to stop. */
export async function listen_to_talk(room: Room, track: string, heard: (what: Heard) => void): Promise<Incoming> {
  return await room.subscribe(track, 0, false, (payload) => {
    const json = payload === undefined ? undefined : read_talk(payload);
    if (json !== undefined) {
      heard(JSON.parse(json) as Heard);
    }
  });
}

/** As above, of lines. */
export async function listen_to_chat(room: Room, track: string, heard: (line: string) => void): Promise<Incoming> {
  return await room.subscribe(track, 0, false, (payload) => {
    const line = payload === undefined ? undefined : read_line(payload);
    if (line !== undefined) {
      heard(line);
    }
  });
}

/** What somebody told of themselves. */
export type ToldState = OwnState & { readonly av1: boolean };

/** Somebody who has told nothing, as programs do. */
export const UNTOLD: OwnState = { name: "", microphone: false, camera: false, screen: false, lobby: false };

export interface Listened {
  readonly device: Device;
  readonly incoming: Incoming;
}

/** How many listen to a track of ours, and how many ever began to; nothing if something else is told of it. */
function demand_in(what: string, json: string | undefined): { subscribers: number; joined: number } | undefined {
  return what !== "demand" || json === undefined ? undefined : (JSON.parse(json) as { subscribers: number; joined: number });
}
