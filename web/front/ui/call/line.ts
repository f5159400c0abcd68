/** One line of the chat: a text, or a file with what can be done about it. */
import type { Said } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon } from "../icons.ts";
import { bytes_in_words, chat_text, colour_of, file_name, in_sentence, name_of, time_of_day } from "../text.ts";
import { COLOURS } from "./tile.ts";

export interface LineItem {
  readonly said: Said;
  readonly is_ours: boolean;
  /** Whether it stands under a name of its own. */
  readonly is_first: boolean;
}

type FileSaid = Extract<Said["what"], { kind: "file" }>;

export class Line implements View<LineItem> {
  readonly element = make("li", { class: "line" });
  readonly #context: Context;
  readonly #name = make("bdi", { class: "name" });
  readonly #time = make("time", {});
  readonly #head: HTMLElement;
  readonly #body: View<LineItem>;

  constructor(context: Context, kind: Said["what"]["kind"]) {
    this.#context = context;
    this.#head = make("div", { class: "by" }, this.#name, this.#time);
    this.#body = kind === "text" ? new Text(context) : new FileCard(context);
    this.element.append(this.#head, this.#body.element);
  }

  #said: Said | undefined;

  update(item: LineItem): void {
    set_hidden(this.#head, !item.is_first);
    set_attribute(this.element, "data-first", item.is_first);
    // Hundreds of lines are looked at whenever one comes, and hardly any is another.
    if (item.said === this.#said) return;
    this.#said = item.said;
    const { said, is_ours } = item;
    set_text(this.#name, is_ours ? this.#context.words.chat.you : name_of(said));
    set_attribute(this.#name, "data-colour", colour_of(said.identity, COLOURS));
    set_text(this.#time, time_of_day(said.unix_ms));
    set_attribute(this.element, "data-ours", is_ours);
    this.#body.update(item);
  }
}

class Text implements View<LineItem> {
  readonly element = make("p", { class: "text", dir: "auto" });
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  update({ said: { what } }: LineItem): void {
    if (what.kind !== "text") return;
    const { shown, left_out } = chat_text(what.text);
    set_text(this.element, left_out === 0 ? shown : `${shown}… ${this.#context.words.chat.left_out(left_out)}`);
  }
}

class FileCard implements View<LineItem> {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #name = make("bdi", { class: "file-name" });
  readonly #state = make("span", { class: "states" });
  readonly #progress = make("progress", { max: 1 });
  readonly #save: HTMLButtonElement;
  #id = -1;

  constructor(context: Context) {
    this.#context = context;
    const { file } = context.words;
    this.#save = button({}, () => {
      context.run(() => context.engine.save_file(this.#id));
    }, icon("save"), file.save);
    this.element = make("div", { class: "file" }, icon("file"), make("div", { class: "about" }, this.#name, this.#state, this.#progress), this.#save);
  }

  update({ said, is_ours }: LineItem): void {
    const { what, id } = said;
    if (what.kind !== "file") return;
    this.#id = id;
    const { file } = this.#context.words;
    const name = file_name(what.name);
    set_text(this.#name, name);
    set_attribute(this.#name, "title", name);
    set_text(this.#state, `${bytes_in_words(what.bytes)} · ${this.#in_words(what, is_ours)}`);
    set_attribute(this.element, "data-state", what.state);
    this.#progress.value = Math.min(1, Math.max(0, what.done || 0));
    set_attribute(this.#progress, "aria-label", file.progress(in_sentence(name)));
    set_hidden(this.#progress, what.state !== "coming");
    set_hidden(this.#save, is_ours || (what.state !== "offered" && what.state !== "here"));
    set_attribute(this.#save, "aria-label", file.save_of(in_sentence(name)));
  }

  #in_words(what: FileSaid, is_ours: boolean): string {
    const words = is_ours ? this.#context.words.file.from_us : this.#context.words.file.from_others;
    return what.state === "coming" ? words.coming(Math.floor((what.done || 0) * 100)) : words[what.state];
  }
}
