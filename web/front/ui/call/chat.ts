/** What is written in the call, and files. However much there is, only a bounded part of it is in the document. */
import type { Said, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, KeyedList, make, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon } from "../icons.ts";
import { CHAT_CHARACTERS_MAX, sentences } from "../text.ts";
import { trouble_of } from "../words.ts";
import { Line, type LineItem } from "./line.ts";

/** Most lines in the document: a few screens full, and quick to lay out. */
const LINES_MAX = 200;
/** By how many the part that is shown moves. */
const STEP = 100;
/** Lines of one person in this time stand under one name. */
const TOGETHER_MS = 5 * 60_000;
/** So near to the end, the list follows what comes. */
const AT_END_PX = 48;

export class Chat implements View<State> {
  readonly element: HTMLElement;
  readonly field: HTMLTextAreaElement;
  readonly #context: Context;
  readonly #log: HTMLElement;
  readonly #lines: KeyedList<LineItem, Line>;
  readonly #empty: HTMLElement;
  readonly #earlier: HTMLButtonElement;
  readonly #later: HTMLButtonElement;
  readonly #newest: HTMLButtonElement;
  readonly #trouble = make("p", { class: "trouble", role: "alert", hidden: true });
  #said: readonly Said[] = [];
  #me = "";
  /** The number of lines after those that are shown; 0 while the list follows the newest. */
  #after = 0;
  #seen_id = -1;
  /** Whether the end of the list is in sight. Kept, for to ask the document has it laid out each time. */
  #is_at_end = true;
  #will_scroll = false;

  constructor(context: Context, close: () => void) {
    this.#context = context;
    const { chat } = context.words;
    const list = make("ol", { class: "lines" });
    this.#lines = new KeyedList(list, ({ said }: LineItem) => String(said.id), (item) => new Line(context, item.said.what.kind));
    this.#empty = make("p", { class: "hint empty" }, icon("lock"), chat.empty);
    this.#earlier = button({ class: "quiet" }, () => {
      this.#move(STEP);
    }, chat.earlier);
    this.#later = button({ class: "quiet" }, () => {
      this.#move(-STEP);
    }, chat.later);
    // Said by the announcer, which also speaks while the chat is closed.
    this.#log = make("div", { class: "scrolls log", role: "log", "aria-live": "off", "aria-label": chat.log, tabindex: 0 }, this.#empty, this.#earlier, list, this.#later);
    this.#log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#log;
      this.#is_at_end = scrollHeight - scrollTop - clientHeight < AT_END_PX;
      this.#note_seen();
    });
    this.#newest = button({ class: "newest" }, () => {
      this.#after = 0;
      this.#draw();
      this.#to_end();
      this.field.focus();
    });
    this.field = make("textarea", { rows: 1, maxlength: CHAT_CHARACTERS_MAX, "aria-label": chat.field, placeholder: chat.field, enterkeyhint: "send", dir: "auto" });
    const form = this.#form();
    const close_button = button({ class: "quiet round", "aria-label": chat.close, title: chat.close }, close, icon("close"));
    this.element = make("section", { class: "panel chat", "aria-label": chat.heading }, make("header", {}, make("h2", {}, chat.heading), close_button), this.#log, make("div", { class: "write" }, this.#newest, this.#trouble, form));
  }

  #form(): HTMLElement {
    const { chat } = this.#context.words;
    const files = make("input", { type: "file", multiple: true, hidden: true, tabindex: -1 });
    files.addEventListener("change", () => {
      this.offer([...(files.files ?? [])]);
      files.value = "";
    });
    const attach = button({ class: "quiet round", "aria-label": chat.attach, title: chat.attach }, () => {
      files.click();
    }, icon("attach"));
    const send = make("button", { type: "submit", class: "strong round", "aria-label": chat.send, title: chat.send }, icon("send"));
    const form = make("form", {}, attach, files, this.field, send);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.field.addEventListener("input", () => {
      this.#fit_field();
    });
    this.field.addEventListener("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (pasted.length === 0) return;
      event.preventDefault();
      this.offer(pasted);
    });
    return form;
  }

  /** Lines that have come since the end of the list was last in sight. Ours are no news to us. */
  get unread(): number {
    let unread = 0;
    for (let at = this.#said.length - 1; at >= 0; at--) {
      const said = this.#said[at];
      if (said === undefined || said.id <= this.#seen_id) break;
      if (said.from !== this.#me) unread += 1;
    }
    return unread;
  }

  update(state: State): void {
    this.#me = state.people.find((person) => person.is_me)?.device ?? "";
    if (state.said === this.#said) return;
    const is_open = this.element.isConnected;
    const at_end = this.#after === 0 && this.#is_at_end;
    const before = this.#said;
    this.#said = state.said;
    if (this.#after > 0) {
      // What is being read stays where it is.
      const last = before[before.length - 1]?.id ?? -1;
      const came = state.said.length - state.said.findLastIndex(({ id }) => id <= last) - 1;
      this.#after = Math.min(this.#after + came, Math.max(0, state.said.length - LINES_MAX));
    }
    if (!is_open) return;
    this.#draw();
    if (at_end) this.#to_end();
    this.#note_seen();
  }

  /** Called when it has come into sight. */
  opened(): void {
    this.#after = 0;
    this.#to_end();
    this.#draw();
    this.#note_seen();
  }

  offer(files: readonly File[]): void {
    for (const file of files) this.#context.run(() => this.#context.engine.offer_file(file));
  }

  #send(): void {
    const text = this.field.value.trim();
    if (text === "") return;
    this.field.value = "";
    this.#fit_field();
    set_hidden(this.#trouble, true);
    this.#context.engine.say(text).then(
      () => {
        this.#after = 0;
        this.#draw();
        this.#to_end();
      },
      (reason: unknown) => {
        const { what, todo } = trouble_of(reason, this.#context.words);
        set_text(this.#trouble, this.#context.words.chat.not_sent(sentences(what, todo)));
        set_hidden(this.#trouble, false);
        // Nobody should have to write it twice.
        if (this.field.value === "") this.field.value = text;
        this.#fit_field();
      },
    );
  }

  #fit_field(): void {
    const lines = Math.min(6, this.field.value.split("\n").length + Math.floor(this.field.value.length / 60));
    set_attribute(this.field, "rows", Math.max(1, lines));
  }

  #draw(): void {
    const end = this.#said.length - this.#after;
    const start = Math.max(0, end - LINES_MAX);
    const shown = this.#said.slice(start, end);
    this.#lines.update(
      shown.map((said, at) => {
        const before = shown[at - 1];
        const is_next = before !== undefined && before.from === said.from && said.unix_ms - before.unix_ms < TOGETHER_MS;
        return { said, is_ours: said.from === this.#me, is_first: !is_next };
      }),
    );
    set_hidden(this.#empty, this.#said.length > 0);
    set_hidden(this.#earlier, start === 0);
    set_hidden(this.#later, this.#after === 0);
    this.#show_newest();
  }

  /** Shows earlier lines, or later ones; what was at the edge stays in sight. */
  #move(by: number): void {
    const anchor = by > 0 ? this.#lines_element.firstElementChild : this.#lines_element.lastElementChild;
    const before = anchor?.getBoundingClientRect().top ?? 0;
    this.#after = Math.max(0, Math.min(this.#after + by, this.#said.length - Math.min(LINES_MAX, this.#said.length)));
    this.#draw();
    if (anchor?.isConnected === true) this.#log.scrollTop += anchor.getBoundingClientRect().top - before;
    if (document.activeElement === document.body) this.#log.focus();
    this.#note_seen();
  }

  get #lines_element(): HTMLElement {
    return this.#earlier.nextElementSibling as HTMLElement;
  }

  /** Once a frame, however many lines come. */
  #to_end(): void {
    this.#is_at_end = true;
    if (this.#will_scroll) return;
    this.#will_scroll = true;
    requestAnimationFrame(() => {
      this.#will_scroll = false;
      if (this.#is_at_end) this.#log.scrollTop = this.#log.scrollHeight;
    });
  }

  #note_seen(): void {
    if (this.element.isConnected && this.#after === 0 && this.#is_at_end) this.#seen_id = this.#said[this.#said.length - 1]?.id ?? this.#seen_id;
    this.#show_newest();
  }

  #show_newest(): void {
    const away = this.#after > 0 || !this.#is_at_end;
    set_hidden(this.#newest, !away || this.#said.length === 0);
    set_text(this.#newest, this.#context.words.chat.newest(this.unread));
  }
}
