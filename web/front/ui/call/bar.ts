/** What one does oneself: microphone, camera, screen, reactions, what is open beside the call, and leaving. */
import type { State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, on_change, set_attribute, set_hidden, set_text } from "../dom.ts";
import { icon, set_icon, type IconName } from "../icons.ts";
import { Disclosure } from "./menu.ts";

export type PanelName = "chat" | "people";
type Mine = "microphone" | "camera" | "screen";

const ICONS: Readonly<Record<Mine, { readonly on: IconName; readonly off: IconName }>> = {
  microphone: { on: "microphone", off: "microphone_off" },
  camera: { on: "camera", off: "camera_off" },
  screen: { on: "screen", off: "screen" },
};

/** Whether this browser can show others a screen: those of phones cannot. */
function can_share(): boolean {
  const devices = (navigator as Partial<Navigator>).mediaDevices as Partial<MediaDevices> | undefined;
  return typeof devices?.getDisplayMedia === "function";
}

export class Bar {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #mine: readonly { readonly kind: Mine; readonly show: (state: "on" | "off" | "starting") => void }[];
  readonly #panels: Readonly<Record<PanelName, { readonly element: HTMLButtonElement; readonly badge: HTMLElement; readonly spoken: HTMLElement }>>;
  readonly #reactions: Disclosure;
  readonly #menu: Disclosure;

  constructor(context: Context, toggle_panel: (panel: PanelName) => void) {
    this.#context = context;
    const { engine, words } = context;
    const { bar } = words;
    const microphone = this.#toggle("microphone");
    const camera = this.#toggle("camera");
    const screen = this.#toggle("screen");
    const shares = can_share();
    screen.element.hidden = !shares;

    const react = button({ class: "control optional", title: bar.reactions }, () => undefined, icon("smile"), make("span", { class: "word" }, bar.reactions));
    const choices = this.#reaction_choices();
    const reactions = make("div", { class: "popup reactions", role: "group", "aria-label": words.reactions.label }, choices);

    const chat = this.#panel("chat", "chat", toggle_panel);
    const people = this.#panel("people", "people", toggle_panel);
    this.#panels = { chat, people };

    const more = button({ class: "control", title: bar.more }, () => undefined, icon("more"), make("span", { class: "word" }, bar.more));
    const menu_screen = this.#menu_screen(shares);
    const menu = make(
      "div",
      { class: "popup menu", role: "group", "aria-label": bar.more },
      make("div", { class: "reactions only-narrow" }, this.#reaction_choices()),
      menu_screen.element,
      ...this.#menu_entries(),
    );
    const leave = button({ class: "control leave", title: bar.leave }, () => {
      context.run(() => engine.leave());
    }, icon("leave"), make("span", { class: "word" }, bar.leave));

    this.element = make(
      "div",
      { class: "bar", role: "group", "aria-label": bar.label },
      make("div", { class: "bar-part" }, microphone.element, camera.element, screen.element),
      make("div", { class: "bar-part" }, make("div", { class: "anchor optional" }, react, reactions), chat.element, people.element, make("div", { class: "anchor" }, more, menu)),
      make("div", { class: "bar-part" }, leave),
    );
    this.#reactions = new Disclosure(react, reactions);
    this.#menu = new Disclosure(more, menu);
    this.#mine = [microphone, camera, screen, menu_screen];
  }

  update(state: State, unread: number, panel: PanelName | undefined): void {
    for (const { kind, show } of this.#mine) show(state.mine[kind]);
    const { bar } = this.#context.words;
    this.#badge("chat", unread, unread === 0 ? "" : bar.unread(unread), panel);
    const knocking = state.knocking.length;
    this.#badge("people", knocking, knocking === 0 ? String(state.people.length) : bar.knocking(knocking), panel);
  }

  toggle(kind: Mine): void {
    const { engine } = this.#context;
    if (kind === "screen" && !can_share()) return;
    const on = engine.state.mine[kind] === "off";
    this.#context.run(() => ({ microphone: () => engine.set_microphone(on), camera: () => engine.set_camera(on), screen: () => engine.set_screen(on) })[kind]());
  }

  toggle_reactions(): void {
    if (this.#menu.is_open) this.#menu.close(true);
    this.#reactions.toggle();
  }

  /** Whether there was something to close. */
  close_popups(): boolean {
    const open = [this.#reactions, this.#menu].filter((popup) => popup.is_open);
    for (const popup of open) popup.close(true);
    return open.length > 0;
  }

  focus_panel_button(panel: PanelName): void {
    this.#panels[panel].element.focus();
  }

  #toggle(kind: Mine): { kind: Mine; element: HTMLButtonElement; show: (state: "on" | "off" | "starting") => void } {
    const words = this.#context.words.bar[kind];
    const drawing = icon(ICONS[kind].off);
    const word = make("span", { class: "word" });
    const element = button({ class: `control mine${kind === "screen" ? " optional" : ""}`, "data-kind": kind }, () => {
      this.toggle(kind);
    }, drawing, word);
    const show = on_change((state: "on" | "off" | "starting") => {
      set_icon(drawing, state === "off" ? ICONS[kind].off : ICONS[kind].on);
      set_text(word, words[state]);
      set_attribute(element, "data-state", state);
      set_attribute(element, "title", words[state]);
      set_attribute(element, "aria-label", words[state]);
      set_attribute(element, "aria-busy", state === "starting" ? "true" : undefined);
    });
    return { kind, element, show };
  }

  #menu_screen(shares: boolean): { kind: Mine; element: HTMLElement; show: (state: "on" | "off" | "starting") => void } {
    const word = make("span", {});
    const element = button({ class: "only-narrow" }, () => {
      this.toggle("screen");
    }, icon("screen"), word);
    element.hidden = !shares;
    return { kind: "screen", element, show: on_change((state) => {
      set_text(word, this.#context.words.menu.screen[state]);
    }) };
  }

  #menu_entries(): HTMLElement[] {
    const { menu } = this.#context.words;
    const entry = (drawing: IconName, label: string, does: () => void): HTMLElement => button({}, does, icon(drawing), label);
    const go = (kind: "invite" | "safety" | "devices" | "figures" | "shortcuts") => (): void => {
      this.#context.go({ kind });
    };
    return [
      entry("invite", menu.invite, go("invite")),
      entry("lock", menu.safety, go("safety")),
      entry("devices", menu.devices, go("devices")),
      entry("full", menu.full, () => {
        const change = document.fullscreenElement === null ? document.documentElement.requestFullscreen() : document.exitFullscreen();
        // A browser that does not want to stays as it is, which is seen.
        change.catch(() => undefined);
      }),
      entry("keyboard", menu.shortcuts, go("shortcuts")),
      entry("figures", menu.figures, go("figures")),
    ];
  }

  #reaction_choices(): DocumentFragment {
    const fragment = document.createDocumentFragment();
    for (const { emoji, name } of this.#context.words.reactions.choices) {
      fragment.append(button({ class: "emoji", "aria-label": name, title: name }, () => {
        this.#context.run(() => this.#context.engine.react(emoji));
      }, emoji));
    }
    return fragment;
  }

  #panel(panel: PanelName, drawing: IconName, toggle: (panel: PanelName) => void): { element: HTMLButtonElement; badge: HTMLElement; spoken: HTMLElement } {
    const name = this.#context.words.bar[panel];
    const badge = make("span", { class: "badge", "aria-hidden": "true" });
    const spoken = make("span", { class: "spoken" });
    const element = button({ class: "control", title: name, "aria-expanded": "false", "data-panel": panel }, () => {
      toggle(panel);
    }, icon(drawing), make("span", { class: "word" }, name), spoken, badge);
    return { element, badge, spoken };
  }

  #badge(panel: PanelName, number: number, spoken: string, open: PanelName | undefined): void {
    const { element, badge, spoken: said } = this.#panels[panel];
    set_text(badge, number > 99 ? "99+" : String(number));
    set_hidden(badge, number === 0);
    set_text(said, spoken === "" ? "" : `, ${spoken}`);
    set_attribute(element, "aria-expanded", open === panel ? "true" : "false");
  }
}
