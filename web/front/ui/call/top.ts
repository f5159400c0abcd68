/** Where one is, and that nobody else is listening. */
import type { State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, set_attribute, set_hidden, set_text } from "../dom.ts";
import { icon } from "../icons.ts";
import { one_line } from "../text.ts";

const ROOM_NAME_CHARACTERS_MAX = 80;

export class Top {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #name = make("bdi", {});
  readonly #sharing: HTMLElement;

  constructor(context: Context) {
    this.#context = context;
    const { call, menu, tile, bar } = context.words;
    const sealed = button({ class: "quiet seal", title: menu.safety }, () => {
      context.go({ kind: "safety" });
    }, icon("lock"), make("span", { class: "only-wide" }, call.sealed), make("span", { class: "only-narrow" }, call.sealed_short));
    const invite = button({ class: "quiet", "aria-label": call.alone.invite, title: call.alone.invite }, () => {
      context.go({ kind: "invite" });
    }, icon("invite"), make("span", { class: "only-wide" }, call.alone.invite));
    const stop = button({ class: "danger" }, () => {
      context.run(() => context.engine.set_screen(false));
    }, bar.screen.on);
    this.#sharing = make("div", { class: "sharing" }, icon("screen"), make("span", {}, tile.sharing), stop);
    this.element = make("header", { class: "top" }, make("h1", { tabindex: -1 }, this.#name), sealed, invite, this.#sharing);
  }

  update({ room_name, mine }: State): void {
    const name = one_line(room_name, ROOM_NAME_CHARACTERS_MAX) || this.#context.words.call.unnamed;
    set_text(this.#name, name);
    set_attribute(this.#name, "title", name);
    set_hidden(this.#sharing, mine.screen !== "on");
  }
}
