/**
 * Being woken while this page is closed: the browser's side of it. The worker tells the relay where, and keeps by which link to
 * come back. What the relay and the push service learn by it: docs/THREAT-MODEL.md.
 */
import type { Trouble, Waking } from "../contract.ts";
import type { Line } from "./ask.ts";
import { Failure } from "./trouble.ts";

/** The script that the browser runs when it is woken: beside the page, for a browser takes none from within it. */
const SCRIPT = "push.js";
/** What is behind the page's address when that script opens it. */
export const RUNG = "?rung";

/** Why this browser, at this place, cannot be woken. */
function hindrance(): Trouble | undefined {
  if (location.protocol !== "https:" && location.protocol !== "http:") {
    return {
      what: "This page cannot be woken: it was opened from a file.",
      why: "Browsers wake only pages that have an address of their own.",
      todo: "Open it from the relay, if your relay serves it.",
    };
  }
  if (!("serviceWorker" in navigator) || !("PushManager" in globalThis) || !("Notification" in globalThis)) {
    return {
      what: "This browser cannot wake a page.",
      why: "It has no Web Push here. On an iPhone or iPad only pages on the home screen have it; private windows have none.",
      todo: "Use another browser, or keep this page open.",
    };
  }
  return undefined;
}

export class Push {
  readonly #line: Line;

  constructor(line: Line) {
    this.#line = line;
  }

  /** How it stands with the relay of this link. */
  async look(link: string): Promise<Waking> {
    const why = hindrance();
    if (why !== undefined) {
      return { can: false, on: false, why };
    }
    const on = (await this.#line.ask("woken_by", [])) !== undefined && Notification.permission === "granted";
    const key = await this.#line.ask("push_key", [link]);
    return key === undefined ? { can: false, on: false, why: NO_RELAY } : { can: true, on };
  }

  /** Asks the person and the browser, and tells the relay. To be called in the click itself. */
  async turn_on(link: string): Promise<void> {
    const why = hindrance();
    if (why !== undefined) {
      throw new Failure(why);
    }
    if ((await Notification.requestPermission()) !== "granted") {
      throw new Failure({
        what: "This page may not show that somebody rings.",
        why: "The browser was told not to let it.",
        todo: "Allow notifications for this page in the browser's settings, beside its address.",
      });
    }
    const key = await this.#line.ask("push_key", [link]);
    if (key === undefined) {
      throw new Failure(NO_RELAY);
    }
    const endpoint = await subscribe(key);
    await this.#line.ask("set_woken_by", [link, endpoint]);
  }

  /** The relay first: from then on nobody is woken, whatever the browser does. */
  async turn_off(link: string): Promise<void> {
    await this.#line.ask("set_woken_by", [link, undefined]);
    const registration = await navigator.serviceWorker.getRegistration();
    await (await registration?.pushManager.getSubscription())?.unsubscribe();
    await registration?.unregister();
  }

  /** What a page that was woken is to do: come online by this link, and wait. */
  async link(): Promise<string | undefined> {
    return await this.#line.ask("woken_by", []);
  }
}

const NO_RELAY: Trouble = {
  what: "This relay does not wake pages.",
  why: "Its operator has not turned that on.",
  todo: "Keep this page open to be rung.",
};

/** Where the browser's push service takes messages of whoever has this key. */
async function subscribe(key: Uint8Array<ArrayBuffer>): Promise<string> {
  try {
    const { pushManager } = await ready();
    const known = await pushManager.getSubscription();
    if (known !== null && same(known.options.applicationServerKey, key)) {
      return known.endpoint;
    }
    // One for another relay, or for a key that this one has no more.
    await known?.unsubscribe();
    return (await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })).endpoint;
  } catch (error) {
    throw new Failure({
      what: "The browser's push service could not be reached.",
      why: error instanceof Error ? error.message : String(error),
      todo: "See whether this device is online, and whether the browser lets pages be woken.",
    });
  }
}

async function ready(): Promise<ServiceWorkerRegistration> {
  await navigator.serviceWorker.register(SCRIPT);
  return await navigator.serviceWorker.ready;
}

function same(one: ArrayBuffer | null, other: Uint8Array): boolean {
  const bytes = new Uint8Array(one ?? new ArrayBuffer(0));
  return bytes.length === other.length && bytes.every((byte, at) => byte === other[at]);
}
