/**
 * What must be seen wherever one is: rings, knocks, warnings. What there is to show is worked out by `banners_of`, without a
 * document; `Banners` shows it above everything else, in dialogs too.
 */
import type { Notice, State, Trouble } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, KeyedList, make, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon, set_icon, type IconName } from "../icons.ts";
import { name_of, one_line, sentences } from "../text.ts";
import type { Words } from "../words.ts";

export type BannerLevel = "alarm" | "ring" | "warning" | "knock" | "info";

export type BannerAct =
  | { readonly do: "act"; readonly notice: string }
  | { readonly do: "close"; readonly key: string }
  | { readonly do: "answer" | "decline"; readonly ring: number }
  | { readonly do: "admit" | "turn_away" | "compare"; readonly who: string }
  | { readonly do: "look" };

export interface Banner {
  readonly key: string;
  readonly level: BannerLevel;
  readonly trouble: Trouble;
  readonly acts: readonly { readonly label: string; readonly act: BannerAct; readonly strong?: boolean }[];
  /** May be closed without an answer. */
  readonly may_close: boolean;
}

/** The loudest first. */
const ORDER: readonly BannerLevel[] = ["alarm", "ring", "warning", "knock", "info"];
/** Most at once: the call must stay in sight. */
const SHOWN_MAX = 3;
/** Knocks with buttons of their own; more are looked at in the list of people. */
const KNOCKS_MAX = 2;

/** What there is to be shown, the loudest first, without what the person has closed. */
export function banners_of(state: State, local: readonly Notice[], closed: ReadonlySet<string>, words: Words): Banner[] {
  const { banner } = words;
  const found: Banner[] = [];
  const in_call = state.phase.kind === "in";
  for (const notice of [...state.notices, ...local]) {
    const acts = notice.action === undefined ? [] : [{ label: notice.action.label, act: { do: "act", notice: notice.key } as const, strong: true }];
    found.push({ key: `notice ${notice.key}`, level: notice.level, trouble: told(notice.trouble), acts, may_close: true });
  }
  for (const { id, room, ...who } of state.ringing) {
    found.push({
      key: `ring ${id}`,
      level: "ring",
      trouble: {
        what: banner.ring(name_of(who)),
        why: room === undefined ? banner.ring_call : banner.ring_room(one_line(room, 80)),
        ...(in_call ? { todo: banner.ring_leaves } : {}),
      },
      acts: [
        { label: banner.accept, act: { do: "answer", ring: id }, strong: true },
        { label: banner.decline, act: { do: "decline", ring: id } },
      ],
      may_close: false,
    });
  }
  if (in_call) {
    for (const person of state.people) {
      if (person.trust !== "changed" || person.is_me) continue;
      found.push({
        key: `changed ${person.identity}`,
        level: "alarm",
        trouble: { what: banner.changed(name_of(person)), why: banner.changed_why, todo: banner.changed_todo },
        acts: [{ label: banner.compare, act: { do: "compare", who: person.identity }, strong: true }],
        may_close: true,
      });
    }
    if (state.line !== "good") {
      found.push({ key: `line ${state.line}`, level: "warning", trouble: words.call.my_line[state.line], acts: [], may_close: state.line === "poor" });
    }
    found.push(...knocks_of(state, words));
  }
  return found
    .filter(({ key }) => !closed.has(key))
    .map((each, at) => ({ each, at }))
    .sort((left, right) => ORDER.indexOf(left.each.level) - ORDER.indexOf(right.each.level) || left.at - right.at)
    .map(({ each }) => each);
}

/** What the engine and the relay say is written for programs' output as well. */
function told({ what, why, todo }: Trouble): Trouble {
  return { what: sentences(what), ...(why === undefined ? {} : { why: sentences(why) }), ...(todo === undefined ? {} : { todo: sentences(todo) }) };
}

function knocks_of({ knocking }: State, words: Words): Banner[] {
  const { banner, people } = words;
  if (knocking.length > KNOCKS_MAX) {
    return [{ key: "knocks", level: "knock", trouble: { what: banner.knocks(knocking.length) }, acts: [{ label: banner.look, act: { do: "look" }, strong: true }], may_close: false }];
  }
  return knocking.map((guest) => ({
    key: `knock ${guest.identity}`,
    level: "knock",
    trouble: { what: banner.knock(name_of(guest)), why: guest.has_link ? people.has_link : people.no_link },
    acts: [
      { label: people.admit, act: { do: "admit", who: guest.identity }, strong: true },
      { label: people.turn_away, act: { do: "turn_away", who: guest.identity } },
    ],
    may_close: false,
  }));
}

const ICONS: Readonly<Record<BannerLevel, IconName>> = { alarm: "warning", ring: "ring", warning: "warning", knock: "door", info: "info" };

class BannerView implements View<Banner> {
  readonly element = make("div", { class: "banner" });
  readonly #icon = icon("info");
  readonly #what = make("strong", { dir: "auto" });
  readonly #rest = make("p", { dir: "auto" });
  readonly #acts = make("div", { class: "acts" });
  readonly #close: HTMLButtonElement;
  #banner: Banner | undefined;

  constructor(words: Words, act: (act: BannerAct) => void) {
    this.#close = button({ class: "quiet round", "aria-label": words.banner.close, title: words.banner.close }, () => {
      if (this.#banner !== undefined) act({ do: "close", key: this.#banner.key });
    }, icon("close"));
    this.element.append(this.#icon, make("div", { class: "told" }, this.#what, this.#rest), this.#acts, this.#close);
    this.#acts.addEventListener("click", (event) => {
      const pressed = event.target instanceof Element ? event.target.closest("button") : null;
      const at = pressed === null ? -1 : [...this.#acts.children].indexOf(pressed);
      const chosen = this.#banner?.acts[at];
      if (chosen !== undefined) act(chosen.act);
    });
  }

  update(banner: Banner): void {
    const before = this.#banner;
    this.#banner = banner;
    set_attribute(this.element, "data-level", banner.level);
    set_attribute(this.element, "role", banner.level === "info" ? "status" : "alert");
    set_icon(this.#icon, ICONS[banner.level]);
    const { what, why, todo } = banner.trouble;
    set_text(this.#what, one_line(what, 200));
    set_text(this.#rest, [why, todo].filter((part) => part !== undefined).map((part) => one_line(part, 400)).join(" "));
    set_hidden(this.#rest, why === undefined && todo === undefined);
    set_hidden(this.#close, !banner.may_close);
    set_hidden(this.#acts, banner.acts.length === 0);
    const labels = banner.acts.map(({ label }) => label).join("\n");
    if (before === undefined || before.acts.map(({ label }) => label).join("\n") !== labels) {
      this.#acts.replaceChildren(...banner.acts.map(({ label, strong }) => make("button", { type: "button", class: strong === true ? "strong" : undefined }, one_line(label, 60))));
    }
  }
}

export class Banners {
  readonly element: HTMLElement;
  readonly #words: Words;
  readonly #list: KeyedList<Banner, BannerView>;
  readonly #stack = make("div", { class: "stack" });
  readonly #more = make("p", { class: "banner-more" });
  readonly #closed = new Set<string>();
  #local: readonly Notice[] = [];
  #state: State | undefined;
  /** What is kept back: it was there already when a dialog was opened, and would stand in its way. */
  #held: ReadonlySet<string> = new Set();
  #without_knocks = false;

  constructor(context: Context) {
    this.#words = context.words;
    this.element = make("section", { class: "banners", "aria-label": context.words.banner.label, tabindex: -1 }, this.#stack, this.#more);
    this.#list = new KeyedList(this.#stack, ({ key }: Banner) => key, () => new BannerView(context.words, (act) => {
      this.#act(context, act);
    }), this.element);
  }

  update(state: State): void {
    this.#state = state;
    // What is over may come again, and is news then.
    const all = banners_of(state, this.#local, new Set(), this.#words);
    const keys = new Set(all.map(({ key }) => key));
    for (const key of this.#closed) if (!keys.has(key)) this.#closed.delete(key);
    const open = all.filter(({ key, level }) => !this.#closed.has(key) && !this.#held.has(key) && !(this.#without_knocks && level === "knock"));
    this.#list.update(open.slice(0, SHOWN_MAX));
    set_hidden(this.element, open.length === 0);
    const more = open.length - SHOWN_MAX;
    set_hidden(this.#more, more <= 0);
    if (more > 0) set_text(this.#more, this.#words.banner.more(more));
  }

  /** Shows something of the screens' own, in place of what was shown before by that key. */
  add(notice: Notice): void {
    this.#local = [...this.#local.filter(({ key }) => key !== notice.key), notice];
    this.#closed.delete(`notice ${notice.key}`);
    if (this.#state !== undefined) this.update(this.#state);
  }

  /** A dialog is on top: only what is new is shown above it. */
  hold_back(hold: boolean): void {
    if (this.#state === undefined || hold === this.#held.size > 0) return;
    this.#held = hold ? new Set(banners_of(this.#state, this.#local, new Set(), this.#words).map(({ key }) => key)) : new Set();
    this.update(this.#state);
  }

  /** Whether those at the door are in sight elsewhere. */
  leave_out_knocks(leave_out: boolean): void {
    this.#without_knocks = leave_out;
    if (this.#state !== undefined) this.update(this.#state);
  }

  /** Moves the focus to the first thing that can be done. */
  focus(): void {
    this.#stack.querySelector("button")?.focus();
  }

  #act(context: Context, act: BannerAct): void {
    const { engine } = context;
    switch (act.do) {
      case "close":
        this.#closed.add(act.key);
        this.#local = this.#local.filter(({ key }) => `notice ${key}` !== act.key);
        if (this.#state !== undefined) this.update(this.#state);
        break;
      case "act":
        context.run(() => engine.act(act.notice));
        break;
      case "answer":
        context.run(() => engine.answer(act.ring));
        break;
      case "decline":
        context.run(() => engine.decline(act.ring));
        break;
      case "admit":
        context.run(() => engine.admit(act.who));
        break;
      case "turn_away":
        context.run(() => engine.turn_away(act.who));
        break;
      case "compare":
        context.go({ kind: "verify", who: act.who });
        break;
      case "look":
        context.go({ kind: "people" });
        break;
    }
  }
}
