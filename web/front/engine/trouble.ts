/** What goes wrong on the page's side, in words. */
import type { Trouble } from "../contract.ts";

const NAMES = { microphone: "the microphone", camera: "the camera", screen: "the screen", speaker: "the loudspeaker" } as const;

/** Of a device, by what the browser says (Media Capture and Streams, section 10). */
export function of_device(kind: keyof typeof NAMES, error: unknown): Trouble {
  const what = `${NAMES[kind]} cannot be used`;
  switch (error instanceof DOMException ? error.name : "") {
    case "NotAllowedError":
    case "SecurityError":
      return { what, why: "this page was not allowed to", todo: "allow it in the browser's address bar, then try again" };
    case "NotFoundError":
      return { what, why: "there is none", todo: "plug one in, or choose another" };
    case "NotReadableError":
    case "AbortError":
      return { what, why: "another program has it, or the system does not give it", todo: "close the other program, then try again" };
    case "OverconstrainedError":
      return { what, why: "the one that was chosen is gone", todo: "choose another" };
    default:
      return { what, why: error instanceof Error ? error.message : String(error), todo: "try another one, or reload the page" };
  }
}

/** As it is thrown. */
export class Failure extends Error implements Trouble {
  readonly what: string;
  readonly why?: string;
  readonly todo?: string;

  constructor({ what, why, todo }: Trouble) {
    super(what);
    this.what = what;
    if (why !== undefined) {
      this.why = why;
    }
    if (todo !== undefined) {
      this.todo = todo;
    }
  }
}

export function is_trouble(error: unknown): error is Trouble {
  return typeof error === "object" && error !== null && "what" in error;
}

/** Of anything else that was thrown. */
export function of_anything(error: unknown): Trouble {
  if (is_trouble(error)) {
    return error;
  }
  return { what: "something in this page failed", why: error instanceof Error ? error.message : String(error), todo: "reload the page" };
}

export const NO_CAPABILITY: Trouble = {
  what: "this browser cannot be in a call",
  why: "it lacks WebTransport or WebCodecs, or this page did not come by https",
  todo: "update it, or use a current Firefox or Chromium",
};

export const WORKER_GONE: Trouble = {
  what: "the part of this page that carries the call failed",
  why: "it is at fault, or the device has too little memory",
  todo: "reload the page: you come back into the call",
};
