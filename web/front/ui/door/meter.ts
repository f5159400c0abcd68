import type { State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { make, set_attribute, set_text, type View } from "../dom.ts";

/** Levels below this are a room's noise. */
const HEARD_FROM = 0.04;
/** After so long without a sound, the page says that nothing is heard. */
const SILENT_AFTER_MS = 5000;
const BARS = 16;

/** How loud our microphone is, as bars and in words. */
export class Meter implements View<State> {
  readonly element: HTMLElement;
  readonly #bars = make("div", { class: "bars", "aria-hidden": "true" }, ...Array.from({ length: BARS }, () => make("i")));
  readonly #meter: HTMLElement;
  readonly #words_of = make("p", { class: "hint" });
  readonly #context: Context;
  readonly #stop: () => void;
  #microphone: State["mine"]["microphone"] = "off";
  #me = "";
  #lit = 0;
  #quiet_since = performance.now();
  #was_heard = false;

  constructor(context: Context) {
    this.#context = context;
    const { level } = context.words.devices;
    this.#meter = make("div", { class: "meter", role: "meter", "aria-label": level, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 0 }, this.#bars);
    this.element = make("div", { class: "level" }, this.#meter, this.#words_of);
    this.#stop = context.engine.subscribe_levels((levels) => {
      this.#show(levels.get(this.#me) ?? 0);
    });
  }

  update({ mine, people }: State): void {
    this.#me = people.find((person) => person.is_me)?.device ?? "";
    if (mine.microphone !== this.#microphone) {
      this.#microphone = mine.microphone;
      this.#quiet_since = performance.now();
      this.#was_heard = false;
    }
    if (mine.microphone !== "on") this.#show(0);
    this.#say();
  }

  #show(level: number): void {
    const now = performance.now();
    if (this.#microphone !== "on") level = 0;
    if (level > HEARD_FROM) {
      this.#quiet_since = now;
      this.#was_heard = true;
    }
    const lit = Math.round(Math.min(1, Math.sqrt(Math.max(0, level))) * BARS);
    if (lit !== this.#lit) {
      this.#lit = lit;
      set_attribute(this.#meter, "aria-valuenow", Math.round((lit * 100) / BARS));
      [...this.#bars.children].forEach((bar, at) => {
        set_attribute(bar, "data-lit", at < lit);
      });
    }
    this.#say();
  }

  #say(): void {
    const { devices } = this.#context.words;
    const silent = performance.now() - this.#quiet_since > SILENT_AFTER_MS;
    let text = "";
    if (this.#microphone === "off") text = devices.microphone_off;
    else if (silent) text = devices.silent;
    else if (this.#was_heard) text = devices.heard;
    set_text(this.#words_of, text);
  }

  close(): void {
    this.#stop();
  }
}
