/** All tiles, and where they stand. */
import type { Participant, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, KeyedList, make, set_hidden, set_text } from "../dom.ts";
import { icon } from "../icons.ts";
import { choose_shown, lay_out, type Place } from "./grid.ts";
import { Tile, type TileItem } from "./tile.ts";

/** How often pictures' shapes are looked at: a phone is turned now and then. */
const FIT_EVERY_MS = 700;

const screen_of = (person: Participant): string => `${person.device} screen`;

export class Stage {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #tiles = make("ul", { class: "tiles" });
  readonly #list: KeyedList<TileItem, Tile>;
  readonly #alone: HTMLElement;
  readonly #more: HTMLButtonElement;
  readonly #watch: ResizeObserver;
  readonly #timer: ReturnType<typeof setInterval>;
  #size = { width: 0, height: 0 };
  #state: State | undefined;
  /** What a person asked to see large. */
  #wanted: string | undefined;
  /** Screens in the order in which they came to be shown. */
  #screens: readonly string[] = [];
  #shown: readonly string[] = [];
  readonly #last_need = new Map<string, number>();
  #step = 0;

  constructor(context: Context) {
    this.#context = context;
    const { call } = context.words;
    this.#more = button({ class: "tile and-more" }, () => {
      context.go({ kind: "people" });
    });
    this.#alone = make(
      "div",
      { class: "alone" },
      make("h2", {}, call.alone.heading),
      make("p", {}, call.alone.text),
      button({ class: "strong" }, () => {
        context.go({ kind: "invite" });
      }, icon("invite"), call.alone.invite),
    );
    this.element = make("section", { class: "stage", "aria-label": call.stage }, this.#tiles, this.#alone, this.#more);
    this.#list = new KeyedList(this.#tiles, ({ key }: TileItem) => key, (item) => new Tile(context, item, () => {
      this.#toggle_large(item.key);
    }));
    this.#watch = new ResizeObserver(([entry]) => {
      if (entry === undefined) return;
      const { width, height } = entry.contentRect;
      this.#size = { width: Math.floor(width), height: Math.floor(height) };
      this.#draw();
    });
    this.#watch.observe(this.element);
    this.#timer = setInterval(() => {
      for (const tile of this.#list.views()) tile.fit();
    }, FIT_EVERY_MS);
  }

  update(state: State): void {
    this.#state = state;
    this.#draw();
  }

  #toggle_large(key: string): void {
    this.#wanted = this.#large_key() === key ? "" : key;
    this.#draw();
  }

  /** What is large: what was asked for, as long as it is there; else the screen that came last. */
  #large_key(): string | undefined {
    if (this.#state === undefined || this.#wanted === "") return undefined;
    const there = (key: string): boolean => this.#screens.includes(key) || (this.#state?.people.some(({ device }) => device === key) ?? false);
    if (this.#wanted !== undefined && there(this.#wanted)) return this.#wanted;
    return this.#screens[this.#screens.length - 1];
  }

  #follow_screens(people: readonly Participant[]): void {
    // Our own is not shown to us: it would show itself.
    const now = people.filter((person) => person.has_screen && !person.is_me).map(screen_of);
    const kept = this.#screens.filter((key) => now.includes(key));
    const came = now.filter((key) => !this.#screens.includes(key));
    // Somebody who begins to show something wants it to be seen.
    if (came.length > 0) this.#wanted = undefined;
    else if (this.#wanted === "" && now.length === 0) this.#wanted = undefined;
    this.#screens = [...kept, ...came];
  }

  #draw(): void {
    const state = this.#state;
    if (state === undefined || this.#size.width === 0) return;
    const { people } = state;
    this.#follow_screens(people);
    this.#step += 1;
    const large = this.#large_key();
    const by_key = new Map<string, { person: Participant; what: "camera" | "screen" }>();
    for (const person of people) {
      by_key.set(person.device, { person, what: "camera" });
      if (this.#screens.includes(screen_of(person))) by_key.set(screen_of(person), { person, what: "screen" });
    }
    const keys = [...by_key.keys()].filter((key) => key !== large);
    const me = people.find((person) => person.is_me)?.device;
    const in_corner = large === undefined && keys.length <= 2 && me !== undefined;
    const layout = lay_out({ tiles: keys.length, large: large !== undefined, corner: in_corner }, this.#size);
    const room = layout.places.length + (layout.corner === undefined ? 0 : 1);
    // The last place says how many more there are.
    const is_full = keys.length > room;
    const needed = new Set(people.filter((person) => person.is_speaking).map(({ device }) => device));
    for (const key of needed) this.#last_need.set(key, this.#step);
    for (const key of this.#last_need.keys()) if (!by_key.has(key)) this.#last_need.delete(key);
    this.#shown = choose_shown(keys, is_full ? Math.max(1, room - 1) : room, this.#shown, needed, this.#last_need);

    const items: TileItem[] = [];
    const put = (key: string, place: Place, is_large: boolean, is_corner: boolean): void => {
      const found = by_key.get(key);
      if (found === undefined) return;
      const reaction = found.what === "camera" ? last_reaction(state, found.person) : undefined;
      items.push({ key, ...found, place, is_large, is_corner, reaction });
    };
    if (large !== undefined && layout.large !== undefined) put(large, layout.large, true, false);
    const corner = layout.corner === undefined ? undefined : me;
    this.#shown.filter((key) => key !== corner).forEach((key, at) => {
      const place = layout.places[at];
      if (place !== undefined) put(key, place, false, false);
    });
    if (corner !== undefined && layout.corner !== undefined) put(corner, layout.corner, false, true);
    this.#list.update(items);
    set_hidden(this.#alone, people.length !== 1 || large !== undefined);
    this.#place_more(is_full ? layout.places[this.#shown.length] : undefined, keys.length - this.#shown.length);
  }

  #place_more(place: Place | undefined, number: number): void {
    set_hidden(this.#more, place === undefined);
    if (place === undefined) return;
    const { style } = this.#more;
    style.setProperty("--x", `${place.x}px`);
    style.setProperty("--y", `${place.y}px`);
    style.setProperty("--w", `${place.width}px`);
    style.setProperty("--h", `${place.height}px`);
    set_text(this.#more, this.#context.words.call.and_more(number));
  }

  close(): void {
    this.#watch.disconnect();
    clearInterval(this.#timer);
    this.#list.close();
  }
}

function last_reaction({ reactions }: State, { device }: Participant): string | undefined {
  for (let at = reactions.length - 1; at >= 0; at--) {
    const reaction = reactions[at];
    if (reaction?.from === device) return reaction.emoji;
  }
  return undefined;
}
