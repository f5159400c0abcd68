/** Who is in, who wants in, and what can be done about either. */
import type { Knocking, Participant, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, KeyedList, make, on_change, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon, set_icon } from "../icons.ts";
import { colour_of, in_sentence, initials, name_of, short_identity } from "../text.ts";
import { COLOURS, states_of } from "./tile.ts";

interface PersonItem {
  readonly person: Participant;
  readonly may_put_out: boolean;
  /** Somebody else here goes by the same name. */
  readonly is_double: boolean;
}

const SHIELDS = { unknown: "shield_empty", verified: "shield", changed: "shield_warning" } as const;

class PersonRow implements View<PersonItem> {
  readonly element = make("li", { class: "person" });
  readonly #context: Context;
  readonly #face = make("span", { class: "face", "aria-hidden": "true" });
  readonly #sound = icon("microphone");
  readonly #camera = icon("camera");
  readonly #name = make("bdi", { class: "name" });
  readonly #states = make("span", { class: "states" });
  readonly #shield = icon("shield_empty");
  readonly #compare: HTMLButtonElement;
  readonly #put_out: HTMLButtonElement;
  #who = "";

  constructor(context: Context) {
    this.#context = context;
    const { people } = context.words;
    this.#compare = button({ class: "quiet round" }, () => {
      context.go({ kind: "verify", who: this.#who });
    }, this.#shield);
    this.#put_out = button({ class: "quiet round", title: people.put_out }, () => {
      context.go({ kind: "put-out", who: this.#who });
    }, icon("put_out"));
    this.element.append(this.#face, make("div", { class: "who" }, this.#name, this.#states), this.#camera, this.#sound, this.#compare, this.#put_out);
  }

  update({ person, may_put_out, is_double }: PersonItem): void {
    const { words } = this.#context;
    const name = name_of(person);
    this.#who = person.identity;
    set_text(this.#face, initials(name));
    set_attribute(this.#face, "data-colour", colour_of(person.identity, COLOURS));
    set_attribute(this.element, "data-speaking", person.is_speaking && person.is_here);
    set_attribute(this.element, "data-trust", person.trust);
    set_text(this.#name, name);
    set_icon(this.#sound, person.has_microphone ? "microphone" : "microphone_off");
    set_attribute(this.#sound, "data-muted", !person.has_microphone);
    set_attribute(this.#camera, "data-shown", person.has_camera);
    const states = [
      ...(person.is_me ? [words.tile.you] : []),
      ...(person.is_host ? [words.tile.host] : []),
      ...states_of(person, words),
      ...(person.has_screen ? [words.people.sharing] : []),
      ...(person.trust === "verified" && !person.is_me ? [words.people.trust.verified] : []),
      ...(is_double ? [short_identity(person.identity)] : []),
    ];
    // Never without a word, and that one is a hint.
    if (states.length === 0) states.push(words.people.trust.unknown);
    set_icon(this.#shield, SHIELDS[person.trust]);
    set_text(this.#states, states.join(" · "));
    set_hidden(this.#compare, person.is_me);
    set_hidden(this.#put_out, !may_put_out);
    const named = in_sentence(name);
    set_attribute(this.#compare, "aria-label", words.people.compare_with(named));
    set_attribute(this.#compare, "title", words.people.compare_with(named));
    set_attribute(this.#put_out, "aria-label", words.people.put_out_who(named));
  }
}

class KnockRow implements View<Knocking> {
  readonly element = make("li", { class: "person knock" });
  readonly #context: Context;
  readonly #face = make("span", { class: "face", "aria-hidden": "true" });
  readonly #name = make("bdi", { class: "name" });
  readonly #states = make("span", { class: "states" });
  readonly #admit: HTMLButtonElement;
  readonly #turn_away: HTMLButtonElement;
  #who = "";

  constructor(context: Context) {
    this.#context = context;
    const { people } = context.words;
    this.#admit = button({ class: "strong" }, () => {
      context.run(() => context.engine.admit(this.#who));
    }, people.admit);
    this.#turn_away = button({}, () => {
      context.run(() => context.engine.turn_away(this.#who));
    }, people.turn_away);
    this.element.append(this.#face, make("div", { class: "who" }, this.#name, this.#states), make("div", { class: "acts" }, this.#admit, this.#turn_away));
  }

  update(guest: Knocking): void {
    const { people } = this.#context.words;
    const name = name_of(guest);
    this.#who = guest.identity;
    set_text(this.#face, initials(name));
    set_attribute(this.#face, "data-colour", colour_of(guest.identity, COLOURS));
    set_text(this.#name, name);
    const identity = short_identity(guest.identity);
    set_text(this.#states, [guest.has_link ? people.has_link : people.no_link, ...(name === identity ? [] : [identity])].join(" · "));
    set_attribute(this.#admit, "aria-label", people.admit_who(in_sentence(name)));
    set_attribute(this.#turn_away, "aria-label", people.turn_away_who(in_sentence(name)));
  }
}

export class People implements View<State> {
  readonly element: HTMLElement;
  readonly heading: HTMLElement;
  readonly #update: ((state: State) => void)[] = [];

  constructor(context: Context, close: () => void) {
    const { engine, words } = context;
    const { people } = words;
    this.heading = make("h2", { tabindex: -1 }, people.heading);
    const at_door = make("h3", { tabindex: -1 });
    const door_list = make("ul", { class: "list" });
    const door = make("section", { class: "at-door" }, at_door, door_list);
    const in_call = make("h3", {});
    const list = make("ul", { class: "list" });

    const lobby = make("input", { type: "checkbox", role: "switch", "aria-describedby": "lobby-hint" });
    lobby.addEventListener("change", () => {
      engine.set_lobby(lobby.checked);
    });
    const lobby_hint = make("p", { id: "lobby-hint", class: "hint" });

    const guests = new KeyedList(door_list, ({ identity }: Knocking) => identity, () => new KnockRow(context), this.heading);
    const rows = new KeyedList(list, ({ person }: PersonItem) => person.device, () => new PersonRow(context), this.heading);
    this.#update.push(({ people: all, knocking }) => {
      const may_put_out = all.some((person) => person.is_me && person.is_host);
      set_text(at_door, people.at_door(knocking.length));
      set_hidden(door, knocking.length === 0);
      set_text(in_call, people.in_call(all.length));
      guests.update(knocking);
      const names = all.map(name_of);
      rows.update(
        all.map((person, at) => ({
          person,
          may_put_out: may_put_out && !person.is_me,
          is_double: person.name !== "" && names.indexOf(names[at] ?? "") !== names.lastIndexOf(names[at] ?? ""),
        })),
      );
    });
    const show_lobby = on_change((on: boolean) => {
      lobby.checked = on;
      set_text(lobby_hint, on ? people.lobby_on : people.lobby_off);
    });
    this.#update.push((state) => {
      show_lobby(state.lobby);
    });

    const close_button = button({ class: "quiet round", "aria-label": people.close, title: people.close }, close, icon("close"));
    const invite = button({}, () => {
      context.go({ kind: "invite" });
    }, icon("invite"), people.invite);
    this.element = make(
      "section",
      { class: "panel people", "aria-label": people.heading },
      make("header", {}, this.heading, close_button),
      make("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": people.list }, in_call, list),
      door,
      make("div", { class: "house" }, make("label", { class: "switch" }, lobby, people.lobby), lobby_hint, invite),
    );
  }

  update(state: State): void {
    for (const update of this.#update) update(state);
  }
}
