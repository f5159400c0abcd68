import type { Engine, Identity, State, Trouble } from "../contract.ts";
import type { Words } from "./words.ts";

/** What every part of the screens can use. */
export interface Context {
  readonly engine: Engine;
  readonly words: Words;
  /** Says something to those who hear the page instead of seeing it. `urgent` interrupts what is being said. */
  announce(text: string, urgent?: boolean): void;
  /** Does what a person asked for; whatever goes wrong is shown. Called in the click itself. */
  run(what: () => Promise<unknown>): void;
  show_trouble(trouble: Trouble): void;
  /** Something within the call that another part of the page leads to. */
  go(to: Destination): void;
}

export type Destination =
  | { readonly kind: "people" }
  | { readonly kind: "chat" }
  | { readonly kind: "invite" }
  | { readonly kind: "safety" }
  | { readonly kind: "devices" }
  | { readonly kind: "figures" }
  | { readonly kind: "shortcuts" }
  | { readonly kind: "verify"; readonly who: Identity }
  | { readonly kind: "put-out"; readonly who: Identity }
  | { readonly kind: "link" };

export type { State };
