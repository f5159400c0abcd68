/** One person, or one screen, on the stage. */
import type { Participant } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, on_change, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon, set_icon } from "../icons.ts";
import { Picture } from "../picture.ts";
import { colour_of, first_character, in_sentence, initials, name_of } from "../text.ts";
import type { Words } from "../words.ts";
import type { Place } from "./grid.ts";

export interface TileItem {
  readonly key: string;
  readonly person: Participant;
  readonly what: "camera" | "screen";
  readonly place: Place;
  readonly is_large: boolean;
  readonly is_corner: boolean;
  /** What they last reacted with, while it is shown. */
  readonly reaction: string | undefined;
}

export const COLOURS = 10;
/** A face is drawn in this size (as in stage.css) and made larger or smaller as a whole: nothing in it is laid out anew. */
const FACE_PX = 96;
/** Of the shorter side of its tile. */
const FACE_SHARE = 0.42;
/** Below these widths a tile says less. */
const MEDIUM_FROM_PX = 170;
const WIDE_FROM_PX = 300;

/** How somebody is, in words, what matters most first. */
export function states_of(person: Participant, { tile }: Words): string[] {
  const states: string[] = [];
  if (person.trust === "changed") states.push(tile.changed);
  if (!person.is_here) states.push(tile.gone);
  else if (person.line !== "good") states.push(tile[person.line]);
  if (!person.has_microphone) states.push(tile.muted);
  return states;
}

export class Tile implements View<TileItem> {
  readonly element = make("li", { class: "tile" });
  readonly #words: Words;
  readonly #picture: Picture;
  readonly #face = make("span", { class: "face", "aria-hidden": "true" });
  readonly #sound = icon("microphone");
  readonly #shield = icon("shield");
  readonly #name = make("bdi", { class: "name" });
  readonly #states = make("span", { class: "states" });
  readonly #spoken = make("span", { class: "spoken" });
  readonly #reaction = make("span", { class: "reaction", "aria-hidden": "true" });
  readonly #large_icon = icon("large");
  readonly #large: HTMLButtonElement;
  readonly #place: (place: Place) => void;
  #now: Place = { x: 0, y: 0, width: 0, height: 0 };

  constructor(context: Context, item: TileItem, on_large: () => void) {
    this.#words = context.words;
    this.#picture = new Picture(context.engine, item.person.device, item.what, item.person.is_me && item.what === "camera");
    this.#large = button({ class: "round large-button" }, on_large, this.#large_icon);
    const plate = make("div", { class: "plate" }, this.#sound, this.#name);
    this.#shield.classList.add("verified-mark");
    this.element.append(this.#face, this.#picture.element, this.#states, plate, this.#shield, this.#spoken, this.#reaction, this.#large);
    this.element.addEventListener("dblclick", on_large);
    set_attribute(this.element, "data-what", item.what);
    this.#place = on_change((place) => {
      const { style } = this.element;
      style.setProperty("--x", `${place.x}px`);
      style.setProperty("--y", `${place.y}px`);
      style.setProperty("--w", `${place.width}px`);
      style.setProperty("--h", `${place.height}px`);
      style.setProperty("--face", String((Math.min(place.width, place.height) * FACE_SHARE) / FACE_PX));
      set_attribute(this.element, "data-size", place.width < MEDIUM_FROM_PX ? "small" : place.width < WIDE_FROM_PX ? "medium" : "wide");
      this.#now = place;
    });
  }

  update(item: TileItem): void {
    const { person, what } = item;
    const { tile } = this.#words;
    const name = name_of(person);
    const is_screen = what === "screen";
    this.#place(item.place);
    this.#picture.show(is_screen ? person.has_screen : person.has_camera && person.is_here);
    this.fit();

    set_attribute(this.element, "data-speaking", !is_screen && person.is_speaking && person.is_here);
    set_attribute(this.element, "data-line", person.is_here ? person.line : "gone");
    set_attribute(this.element, "data-trust", person.trust);
    set_attribute(this.element, "data-large", item.is_large);
    set_attribute(this.element, "data-corner", item.is_corner);
    set_attribute(this.element, "data-me", person.is_me);
    set_attribute(this.element, "data-colour", colour_of(person.identity, COLOURS));

    set_text(this.#face, is_screen ? "" : initials(name));
    set_text(this.#name, is_screen ? tile.screen(in_sentence(name)) : person.is_me ? tile.me(in_sentence(name)) : name);
    set_icon(this.#sound, is_screen ? "screen" : person.has_microphone ? "microphone" : "microphone_off");
    set_attribute(this.#sound, "data-muted", !is_screen && !person.has_microphone);
    set_attribute(this.#shield, "data-shown", person.trust === "verified" && !person.is_me && !is_screen);
    const states = is_screen ? [] : states_of(person, this.#words);
    set_text(this.#states, states.join(" · "));
    set_hidden(this.#states, states.length === 0);
    const also = is_screen ? [] : [person.has_camera ? "" : tile.no_picture, person.trust === "verified" && !person.is_me ? tile.verified : "", person.is_host ? tile.host : ""];
    set_text(this.#spoken, also.filter((word) => word !== "").join(", "));
    set_text(this.#reaction, item.reaction === undefined ? "" : first_character(item.reaction));
    set_attribute(this.#reaction, "data-shown", item.reaction !== undefined);

    const of = in_sentence(is_screen ? tile.screen(name) : name);
    const label = item.is_large ? tile.small(of) : tile.large(of);
    set_icon(this.#large_icon, item.is_large ? "small" : "large");
    set_attribute(this.#large, "aria-label", label);
    set_attribute(this.#large, "title", label);
  }

  fit(): void {
    this.#picture.fit(this.#now.width, this.#now.height);
  }

  close(): void {
    this.#picture.close();
  }
}
