/** Modal dialogs: the element does focus, Escape and what is behind it; this does the frame around them. */
import { button, make, type Child } from "../dom.ts";
import { icon } from "../icons.ts";
import type { Words } from "../words.ts";

let titles = 0;

export class Dialogs {
  readonly #words: Words;
  /** Called with where things must go that are to be seen above all: what is outside a modal dialog cannot be used. */
  readonly #on_top: (top: HTMLElement | undefined) => void;
  readonly #open: { readonly element: HTMLDialogElement; readonly on_close: (() => void) | undefined }[] = [];

  constructor(words: Words, on_top: (top: HTMLElement | undefined) => void) {
    this.#words = words;
    this.#on_top = on_top;
  }

  /** Opens a dialog. `on_close` is called once, however it is closed. */
  open(kind: string, heading: string, content: readonly Child[], on_close?: () => void): HTMLDialogElement {
    const id = `title-${++titles}`;
    const close = button({ class: "quiet round", "aria-label": this.#words.close, title: this.#words.close }, () => {
      element.close();
    }, icon("close"));
    const title = make("h2", { id, tabindex: -1, dir: "auto" }, heading);
    const inside = make("div", { class: "inside" }, make("header", {}, title, close), make("div", { class: "content" }, ...content));
    const element = make("dialog", { class: "dialog", "data-kind": kind, "aria-labelledby": id }, inside);
    element.addEventListener("click", (event) => {
      // Beside the content is the dialog itself, and only its backdrop shows there.
      if (event.target === element) element.close();
    });
    element.addEventListener("close", () => {
      this.#closed(element);
    });
    document.body.append(element);
    this.#open.push({ element, on_close });
    element.showModal();
    // The heading, not the first button: who hears the page learns where they are, and Enter does nothing by accident.
    if (element.querySelector("[autofocus]") === null) title.focus();
    this.#on_top(element);
    return element;
  }

  get is_open(): boolean {
    return this.#open.length > 0;
  }

  close_all(): void {
    for (const { element } of [...this.#open].reverse()) element.close();
  }

  #closed(element: HTMLDialogElement): void {
    const at = this.#open.findIndex((open) => open.element === element);
    if (at < 0) return;
    const [gone] = this.#open.splice(at, 1);
    this.#on_top(this.#open[this.#open.length - 1]?.element);
    element.remove();
    gone?.on_close?.();
  }
}
