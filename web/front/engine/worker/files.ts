/** Files on their way through the room: each on a track of its own, in parts, with its hash told before. */
import type { Incoming, Room } from "wasm:supernode_web";

import { fresh_id, hex, sha256, sleep } from "./bytes.ts";

export const FILE_CODEC = "supernode-file/1";
/** Largest that is sent or taken: it is in memory until it is saved. */
export const FILE_BYTES_MAX = 100 * 1024 * 1024;
/** Bytes of files of others that are kept; what is more is not taken. */
const KEPT_BYTES_MAX = 300 * 1024 * 1024;
const PART_BYTES = 32 * 1024;
/** Parts that wait for the connection: sound goes before them, and what waits is memory. */
const WAITING_MAX = 8;
const TTL_MS = 60_000;
/** Longest to wait for others to want it. */
const LISTENERS_MS = 5000;
/** How often it is said how far it is. */
const TOLD_EVERY_MS = 200;

export type Progress = (done: number, state: "offered" | "coming" | "here" | "failed") => void;

export interface Offer {
  readonly id: string;
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Sends a file. `offer` tells the others of it, as soon as its track is there. */
export async function send_file(
  room: Room,
  file: File,
  others: number,
  offer: (offer: Offer) => void,
  progress: Progress,
): Promise<void> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const [id, hash] = [fresh_id(), await sha256(bytes)];
  let listeners = 0;
  const track = await room.publish(id, "data", "file", FILE_CODEC, new Uint8Array(), TTL_MS, (what, json) => {
    listeners = what === "demand" && json !== undefined ? (JSON.parse(json) as { subscribers: number }).subscribers : listeners;
  });
  try {
    offer({ id: hex(id), name: file.name, bytes: bytes.length, sha256: hash });
    const give_up_at = performance.now() + LISTENERS_MS;
    while (listeners < others && performance.now() < give_up_at) {
      await sleep(50);
    }
    let told_at = 0;
    for (let at = 0; at < bytes.length && listeners > 0; at += PART_BYTES) {
      while (track.waiting() > WAITING_MAX && !track.is_dead()) {
        await sleep(5);
      }
      if (!track.send(bytes.subarray(at, at + PART_BYTES), 0, true, 0, 0, true)) {
        progress(at / bytes.length, "failed");
        return;
      }
      if (performance.now() - told_at > TOLD_EVERY_MS) {
        told_at = performance.now();
        progress(at / bytes.length, "coming");
      }
    }
    await track.finish();
    progress(1, "here");
  } finally {
    track.free();
  }
}

/** A file that comes. */
export class FileIn {
  readonly offer: Offer;
  readonly #progress: Progress;
  readonly #parts: Uint8Array<ArrayBuffer>[] = [];
  #bytes = 0;
  #told_at = 0;
  #incoming: Incoming | undefined;
  #blob: Blob | undefined;
  is_begun = false;
  is_over = false;

  constructor(offer: Offer, progress: Progress) {
    this.offer = offer;
    this.#progress = progress;
  }

  get blob(): Blob | undefined {
    return this.#blob;
  }

  async start(room: Room, track: string, kept_bytes: number): Promise<void> {
    this.is_begun = true;
    if (this.offer.bytes > FILE_BYTES_MAX || kept_bytes + this.offer.bytes > KEPT_BYTES_MAX) {
      this.#end("failed");
      return;
    }
    this.#incoming = await room.subscribe(track, 0, false, (part) => {
      if (part === undefined) {
        void this.#check();
      } else {
        this.#take(part);
      }
    });
  }

  /** Whoever sends it is gone. */
  fail(): void {
    if (!this.is_over) {
      this.#end("failed");
    }
  }

  #take(part: Uint8Array<ArrayBuffer>): void {
    if (this.is_over) {
      return;
    }
    this.#parts.push(part);
    this.#bytes += part.length;
    if (this.#bytes > this.offer.bytes) {
      this.#end("failed");
    } else if (performance.now() - this.#told_at > TOLD_EVERY_MS) {
      this.#told_at = performance.now();
      this.#progress(this.#bytes / Math.max(1, this.offer.bytes), "coming");
    }
  }

  async #check(): Promise<void> {
    if (this.is_over) {
      return;
    }
    // Never of a type that a browser would open by itself.
    const blob = new Blob(this.#parts, { type: "application/octet-stream" });
    const is_whole = this.#bytes === this.offer.bytes && (await sha256(await blob.arrayBuffer())) === this.offer.sha256;
    this.#blob = is_whole ? blob : undefined;
    this.#end(is_whole ? "here" : "failed");
  }

  #end(state: "here" | "failed"): void {
    this.is_over = true;
    this.#parts.length = 0;
    this.#incoming?.free();
    this.#incoming = undefined;
    this.#progress(state === "here" ? 1 : this.#bytes / Math.max(1, this.offer.bytes), state);
  }
}
