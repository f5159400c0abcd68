/** The first screen: what the link leads to, who one is, how one looks and sounds, and one button. */
import type { LinkShown, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, on_change, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon, set_icon } from "../icons.ts";
import { Picture } from "../picture.ts";
import { one_line, short_identity } from "../text.ts";
import { DevicePicker } from "./devices.ts";
import { Meter } from "./meter.ts";

const NAME_CHARACTERS_MAX = 64;
/** How often the shape of our picture is looked at. */
const FIT_EVERY_MS = 500;

export class Door implements View<State> {
  readonly element: HTMLElement;
  readonly #parts: readonly View<State>[];
  readonly #link = make("p", { class: "leads", dir: "auto" });
  readonly #privacy = make("p", { class: "privacy" });
  readonly #heading = make("h1", { tabindex: -1 });
  readonly #enter = make("button", { type: "submit", class: "strong main" });
  readonly #coming_in = make("p", { class: "hint coming-in" });
  readonly #show_link: (link: LinkShown) => void;
  readonly #name: HTMLInputElement;

  constructor(context: Context) {
    const { engine, words } = context;
    const { door } = words;
    this.#name = make("input", { id: "name", type: "text", autocomplete: "nickname", maxlength: NAME_CHARACTERS_MAX, spellcheck: "false", "aria-describedby": "name-hint", dir: "auto" });
    this.#name.value = one_line(engine.state.me.name, NAME_CHARACTERS_MAX);
    const hint = make("p", { id: "name-hint", class: "hint" }, door.name_hint);
    const show_trouble = (has_trouble: boolean): void => {
      const { what, why, todo } = door.no_name;
      set_text(hint, has_trouble ? `${what} ${why} ${todo}` : door.name_hint);
      set_attribute(hint, "class", has_trouble ? "trouble" : "hint");
      set_attribute(hint, "role", has_trouble ? "alert" : undefined);
      set_attribute(this.#name, "aria-invalid", has_trouble ? "true" : undefined);
    };
    this.#name.addEventListener("input", () => {
      engine.set_name(this.#name.value.trim());
      show_trouble(false);
    });
    const form = make("form", { class: "enter" }, make("label", { for: "name" }, door.name), this.#name, hint, this.#enter, this.#coming_in);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#name.value.trim() === "") {
        show_trouble(true);
        this.#name.focus();
        return;
      }
      context.run(() => engine.enter());
    });
    const preview = new Preview(context);
    const picker = new DevicePicker(context);
    const meter = new Meter(context);
    this.#parts = [preview, meter, picker];
    this.#show_link = on_change((link) => {
      const relay = one_line(link.relay, 100);
      set_text(this.#heading, door.heading[link.leads_to]);
      set_text(this.#enter, door.enter[link.leads_to]);
      set_text(this.#privacy, door.privacy(relay));
      this.#privacy.prepend(icon("lock"));
      set_text(this.#link, link.leads_to === "person" ? door.person(short_identity(link.person ?? ""), relay) : door[link.leads_to](relay));
    });
    const other = button({ class: "quiet" }, () => {
      context.go({ kind: "link" });
    }, door.other_link);
    this.element = make(
      "div",
      { class: "door" },
      make("section", { class: "mirror", "aria-label": words.devices.heading }, preview.element, meter.element, make("details", {}, make("summary", {}, icon("devices"), door.devices), picker.element)),
      make("section", { class: "way-in" }, make("p", { class: "brand" }, icon("lock"), words.product), this.#heading, this.#link, form, this.#privacy, other),
    );
    this.#show_coming_in = on_change((how) => {
      set_text(this.#coming_in, door.coming_in[how]);
    });
  }

  readonly #show_coming_in: (how: "both" | "sound" | "picture" | "none") => void;

  update(state: State): void {
    if (state.phase.kind === "door") this.#show_link(state.phase.link);
    // A name that is kept may come a moment after the page.
    if (this.#name.value === "" && document.activeElement !== this.#name) this.#name.value = one_line(state.me.name, NAME_CHARACTERS_MAX);
    const sound = state.mine.microphone !== "off";
    const picture = state.mine.camera !== "off";
    this.#show_coming_in(sound && picture ? "both" : sound ? "sound" : picture ? "picture" : "none");
    for (const part of this.#parts) part.update(state);
  }

  close(): void {
    for (const part of this.#parts) part.close?.();
  }
}

/** Our own picture, with the two switches in it. */
class Preview implements View<State> {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #off: HTMLElement;
  readonly #prepare: HTMLElement;
  readonly #switches: HTMLElement;
  readonly #parts: readonly ((state: State) => void)[];
  readonly #timer: ReturnType<typeof setInterval>;
  #picture: Picture | undefined;

  constructor(context: Context) {
    this.#context = context;
    const { engine, words } = context;
    const { door } = words;
    this.#off = make("p", { class: "off" }, icon("camera_off"), door.preview_off);
    const prepare = button({ class: "strong" }, () => {
      context.run(() => engine.prepare());
    }, icon("camera"), door.prepare);
    this.#prepare = make("div", { class: "prepare" }, prepare, make("p", { class: "hint" }, door.prepare_hint));
    const microphone = this.#switch("microphone", "microphone", "microphone_off", (on) => engine.set_microphone(on));
    const camera = this.#switch("camera", "camera", "camera_off", (on) => engine.set_camera(on));
    this.#switches = make("div", { class: "switches" }, microphone.element, camera.element);
    this.#parts = [microphone.show, camera.show];
    this.element = make("div", { class: "preview", role: "group", "aria-label": door.preview }, this.#off, this.#prepare, this.#switches);
    this.#timer = setInterval(() => {
      this.#picture?.fit(this.element.clientWidth, this.element.clientHeight);
    }, FIT_EVERY_MS);
  }

  #switch(kind: "microphone" | "camera", on: "microphone" | "camera", off: "microphone_off" | "camera_off", set: (on: boolean) => Promise<void>): { element: HTMLElement; show: (state: State) => void } {
    const words = this.#context.words.bar[kind];
    const drawing = icon(off);
    const element = button({ class: "round switch-button" }, () => {
      this.#context.run(() => set(this.#context.engine.state.mine[kind] === "off"));
    }, drawing);
    const show = on_change((state: "on" | "off" | "starting") => {
      set_icon(drawing, state === "off" ? off : on);
      set_attribute(element, "data-state", state);
      set_attribute(element, "aria-label", words[state]);
      set_attribute(element, "title", words[state]);
      set_attribute(element, "aria-busy", state === "starting" ? "true" : undefined);
    });
    return {
      element,
      show: ({ mine }) => {
        show(mine[kind]);
      },
    };
  }

  update(state: State): void {
    const { mine, people, devices } = state;
    const me = people.find((person) => person.is_me)?.device;
    if (this.#picture === undefined && me !== undefined) {
      this.#picture = new Picture(this.#context.engine, me, "camera", true);
      this.element.prepend(this.#picture.element);
    }
    this.#picture?.show(mine.camera !== "off");
    const asked = mine.camera !== "off" || mine.microphone !== "off" || [...devices.microphones, ...devices.cameras].some(({ label }) => label !== "");
    const focused = this.#prepare.contains(document.activeElement);
    set_hidden(this.#prepare, asked);
    set_hidden(this.#switches, !asked);
    set_hidden(this.#off, !asked || mine.camera !== "off");
    for (const show of this.#parts) show(state);
    if (asked && focused) this.#switches.querySelector("button")?.focus();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#picture?.close();
  }
}
