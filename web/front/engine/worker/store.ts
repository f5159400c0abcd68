/**
 * What this page keeps of a person: their keys, sealed; their name; with whom they compared numbers. In IndexedDB, which is
 * of this page's place (on file:// of this file, or of all files). The key that seals cannot be exported: whoever copies
 * the profile has it all the same, and a script that gets in here could use it, but not take it along.
 */
import { Keys } from "wasm:supernode_web";

import type { Identity } from "../../contract.ts";

const DATABASE = "supernode";
const TABLE = "kept";
const NONCE_BYTES = 12;
/** People with whom numbers were compared, at most. */
const VERIFIED_MAX = 2000;

/** Where this page is woken while it is closed, and by which link it then comes back. */
export interface Woken {
  readonly link: string;
  readonly endpoint: string;
}

interface Sealed {
  readonly nonce: Uint8Array<ArrayBuffer>;
  readonly sealed: ArrayBuffer;
}

export class Store {
  readonly #database: IDBDatabase | undefined;
  /** Where nothing can be kept, as in a private window: for as long as this page is open. */
  readonly #instead = new Map<string, unknown>();

  private constructor(database: IDBDatabase | undefined) {
    this.#database = database;
  }

  static async open(): Promise<Store> {
    try {
      const asked = indexedDB.open(DATABASE, 1);
      asked.onupgradeneeded = () => asked.result.createObjectStore(TABLE);
      return new Store((await done(asked)) as IDBDatabase);
    } catch {
      return new Store(undefined);
    }
  }

  /** Whether what is kept is there again next time. */
  get is_lasting(): boolean {
    return this.#database !== undefined;
  }

  /** The person's keys; made now if there are none. */
  async keys(): Promise<Keys> {
    const wrap = await this.#wrapping_key();
    const kept = (await this.#get("keys")) as Sealed | undefined;
    if (kept !== undefined) {
      const bytes = new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: kept.nonce }, wrap, kept.sealed));
      const keys = Keys.from_bytes(bytes);
      bytes.fill(0);
      if (keys !== undefined) {
        return keys;
      }
    }
    const keys = Keys.generate();
    const bytes = keys.to_bytes();
    const sealed = await this.#seal(bytes);
    bytes.fill(0);
    await this.#put("keys", sealed);
    return keys;
  }

  async name(): Promise<string> {
    const name = await this.#get("name");
    return typeof name === "string" ? name : "";
  }

  async set_name(name: string): Promise<void> {
    await this.#put("name", name);
  }

  async verified(): Promise<Map<Identity, string>> {
    const kept = await this.#get("verified");
    return kept instanceof Map ? (kept as Map<Identity, string>) : new Map<Identity, string>();
  }

  async set_verified(identity: Identity, name: string, verified: boolean): Promise<void> {
    const all = await this.verified();
    all.delete(identity);
    if (verified) {
      all.set(identity, name);
    }
    for (const oldest of [...all.keys()].slice(0, Math.max(0, all.size - VERIFIED_MAX))) {
      all.delete(oldest);
    }
    await this.#put("verified", all);
  }

  /** The link in it is kept sealed: it may let whoever has it into the relay. */
  async woken(): Promise<Woken | undefined> {
    const kept = (await this.#get("woken")) as Sealed | undefined;
    if (kept === undefined) {
      return undefined;
    }
    const wrap = await this.#wrapping_key();
    const bytes = await crypto.subtle.decrypt({ name: "AES-GCM", iv: kept.nonce }, wrap, kept.sealed);
    return JSON.parse(new TextDecoder().decode(bytes)) as Woken;
  }

  async set_woken(woken: Woken | undefined): Promise<void> {
    await this.#put("woken", woken === undefined ? undefined : await this.#seal(new TextEncoder().encode(JSON.stringify(woken))));
  }

  async #seal(bytes: Uint8Array<ArrayBuffer>): Promise<Sealed> {
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
    return { nonce, sealed: await crypto.subtle.encrypt({ name: "AES-GCM", iv: nonce }, await this.#wrapping_key(), bytes) };
  }

  async #wrapping_key(): Promise<CryptoKey> {
    const kept = await this.#get("wrap");
    if (kept instanceof CryptoKey) {
      return kept;
    }
    const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    await this.#put("wrap", key);
    return key;
  }

  async #get(name: string): Promise<unknown> {
    if (this.#database === undefined) {
      return this.#instead.get(name);
    }
    return await done(this.#database.transaction(TABLE).objectStore(TABLE).get(name));
  }

  async #put(name: string, value: unknown): Promise<void> {
    if (this.#database === undefined) {
      this.#instead.set(name, value);
      return;
    }
    await done(this.#database.transaction(TABLE, "readwrite").objectStore(TABLE).put(value, name));
  }
}

function done(asked: IDBRequest): Promise<unknown> {
  return new Promise((good, bad) => {
    asked.onsuccess = () => {
      good(asked.result);
    };
    asked.onerror = () => {
      bad(new Error("nothing can be kept here", { cause: asked.error }));
    };
  });
}
