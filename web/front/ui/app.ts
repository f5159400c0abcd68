/** The page: which screen is shown, and what stands above all screens. */
import type { Engine, LinkShown, Notice, State, Trouble } from "../contract.ts";
import { Announcer, news } from "./above/announcer.ts";
import { Banners } from "./above/banners.ts";
import { Sounds } from "./above/sounds.ts";
import { Call } from "./call/call.ts";
import type { Context, Destination } from "./context.ts";
import { Dialogs } from "./dialogs/dialog.ts";
import { Door } from "./door/door.ts";
import { link_form } from "./door/link_form.ts";
import { Entering, Over } from "./door/ways.ts";
import { make, set_attribute, set_text, type View } from "./dom.ts";
import { name_of, one_line } from "./text.ts";
import { trouble_of, type Words } from "./words.ts";

type ScreenName = "opening" | "link" | "door" | "entering" | "in" | "over";

export class App {
  readonly element = make("div", { class: "app" });
  readonly #engine: Engine;
  readonly #words: Words;
  readonly #context: Context;
  readonly #main = make("main");
  readonly #announcer = new Announcer();
  readonly #sounds = new Sounds();
  readonly #banners: Banners;
  readonly #dialogs: Dialogs;
  readonly #stop: () => void;
  #screen: { readonly name: ScreenName; readonly view: View<State> } | undefined;
  #call: Call | undefined;
  #before: State | undefined;
  /** Where the last link led to: what is on the way in depends on it. */
  #leads_to: LinkShown["leads_to"] = "room";
  /** Whether the call that is over had begun for us. */
  #was_in = false;
  /** Somebody wants to paste another link, at the door or after a call. */
  #wants_link = false;
  #troubles = 0;
  /** The link that the page came with is being read: until then nobody is asked for one. */
  #is_opening: boolean;

  constructor(engine: Engine, words: Words, opening?: Promise<unknown>) {
    this.#is_opening = opening !== undefined;
    const opened = (): void => {
      this.#is_opening = false;
      this.#update(engine.state);
    };
    opening?.then(opened, opened);
    this.#engine = engine;
    this.#words = words;
    this.#context = {
      engine,
      words,
      announce: (text, urgent) => {
        this.#announcer.say(text, urgent);
      },
      run: (what) => {
        this.#run(what);
      },
      show_trouble: (trouble) => {
        this.#show_trouble(trouble);
      },
      go: (to) => {
        this.#go(to);
      },
    };
    this.#banners = new Banners(this.#context);
    this.#dialogs = new Dialogs(words, (top) => {
      // What is outside a modal dialog can be neither pressed nor heard, and somebody may ring.
      (top ?? this.element).append(this.#banners.element, this.#announcer.element);
      this.#banners.hold_back(top !== undefined);
    });
    this.element.append(this.#main, this.#banners.element, this.#announcer.element);
    document.documentElement.lang = words.language;
    this.#stop = engine.subscribe((state) => {
      this.#update(state);
    });
    this.#update(engine.state);
  }

  close(): void {
    this.#stop();
    this.#dialogs.close_all();
    this.#screen?.view.close?.();
    this.#sounds.close();
    this.element.remove();
  }

  #update(state: State): void {
    const { phase } = state;
    if (phase.kind === "in") this.#was_in = true;
    else if (phase.kind !== "over") this.#was_in = false;
    if (phase.kind === "door") this.#leads_to = phase.link.leads_to;
    if (phase.kind !== this.#before?.phase.kind) this.#wants_link = false;
    this.#choose_screen(state);
    this.#screen?.view.update(state);
    this.#banners.update(state);
    this.#sounds.update(state);
    if (this.#before !== undefined) for (const { text, urgent } of news(this.#before, state, this.#words)) this.#announcer.say(text, urgent);
    this.#before = state;
    this.#show_title(state);
  }

  #choose_screen(state: State): void {
    const { phase } = state;
    const name: ScreenName = this.#wants_link ? "link" : phase.kind !== "no-link" ? phase.kind : this.#is_opening ? "opening" : "link";
    if (name === this.#screen?.name) return;
    const is_first = this.#screen === undefined || this.#screen.name === "opening";
    // First what was lent to the old one comes back: the new one may ask for the same picture.
    this.#dialogs.close_all();
    this.#screen?.view.close?.();
    this.#call = undefined;
    this.#banners.leave_out_knocks(false);
    const view = this.#make(name, state);
    this.#screen = { name, view };
    this.#main.replaceChildren(view.element);
    set_attribute(this.element, "data-screen", name);
    // Whoever hears the page learns that it is another one. On arrival the browser does that itself.
    if (!is_first) view.element.querySelector<HTMLElement>("h1")?.focus();
  }

  #make(name: ScreenName, { phase }: State): View<State> {
    switch (name) {
      case "opening":
        return { element: make("section", { class: "opening", role: "status" }, make("h1", { class: "spoken" }, this.#words.product), this.#words.no_link.opening), update: () => undefined };
      case "link": {
        const back = phase.kind === "no-link" ? undefined : (): void => {
          this.#wants_link = false;
          this.#update(this.#engine.state);
        };
        return link_form(this.#context, back);
      }
      case "door":
        return new Door(this.#context);
      case "entering":
        return new Entering(this.#context, this.#leads_to);
      case "in":
        this.#call = new Call(this.#context, this.#dialogs, {
          to_notices: () => {
            this.#banners.focus();
          },
          panel_changed: (panel) => {
            this.#banners.leave_out_knocks(panel === "people");
          },
        });
        return this.#call;
      case "over":
        return new Over(this.#context, this.#was_in);
    }
  }

  #go(to: Destination): void {
    if (to.kind === "link") {
      this.#wants_link = true;
      this.#update(this.#engine.state);
      return;
    }
    if (to.kind === "people" || to.kind === "chat") this.#dialogs.close_all();
    this.#call?.go(to);
  }

  #run(what: () => Promise<unknown>): void {
    const failed = (reason: unknown): void => {
      const trouble = trouble_of(reason, this.#words);
      const { phase } = this.#engine.state;
      // A screen of its own says it.
      if ((phase.kind === "over" || phase.kind === "no-link") && phase.why?.what === trouble.what) return;
      this.#show_trouble(trouble);
    };
    try {
      what().catch(failed);
    } catch (reason) {
      failed(reason);
    }
  }

  #show_trouble(trouble: Trouble): void {
    // The same trouble twice is one.
    const key = `screens ${one_line(trouble.what, 60) || String(++this.#troubles)}`;
    const notice: Notice = { key, level: "warning", trouble };
    this.#banners.add(notice);
  }

  #show_title(state: State): void {
    const { title, product, call } = this.#words;
    const ring = state.ringing[0];
    const guest = state.knocking[0];
    const room = one_line(state.room_name, 60) || call.unnamed;
    let text = state.phase.kind === "in" ? title.call(room, state.people.length) : product;
    if (ring !== undefined) text = title.ringing(name_of(ring));
    else if (guest !== undefined && state.phase.kind === "in") text = title.knocking(name_of(guest));
    else if (this.#call !== undefined && this.#call.unread > 0) text = title.unread(text, this.#call.unread);
    set_text(document.head.querySelector("title") ?? document.head.appendChild(make("title")), text);
  }
}
