/** A button that shows and hides something beside it. Escape and a click elsewhere hide it again. */
import { set_attribute, set_hidden } from "../dom.ts";

let ids = 0;

export class Disclosure {
  readonly #opener: HTMLButtonElement;
  readonly #content: HTMLElement;

  constructor(opener: HTMLButtonElement, content: HTMLElement) {
    this.#opener = opener;
    this.#content = content;
    content.id = `disclosed-${++ids}`;
    set_attribute(opener, "aria-controls", content.id);
    opener.addEventListener("click", () => {
      this.toggle();
    });
    content.addEventListener("keydown", (event) => {
      this.#move(event);
    });
    // What was chosen is done, and the rest is out of the way.
    content.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("button") !== null) this.close(true);
    });
    this.#show(false);
  }

  get is_open(): boolean {
    return !this.#content.hidden;
  }

  toggle(): void {
    if (this.is_open) {
      this.close(true);
      return;
    }
    this.#show(true);
    this.#choices()[0]?.focus();
    document.addEventListener("pointerdown", this.#outside);
  }

  close(with_focus: boolean): void {
    if (!this.is_open) return;
    const had_focus = this.#content.contains(document.activeElement);
    this.#show(false);
    document.removeEventListener("pointerdown", this.#outside);
    if (with_focus && had_focus) this.#opener.focus();
  }

  #show(open: boolean): void {
    set_hidden(this.#content, !open);
    set_attribute(this.#opener, "aria-expanded", open ? "true" : "false");
  }

  #choices(): HTMLElement[] {
    return [...this.#content.querySelectorAll("button")].filter((choice) => choice.getClientRects().length > 0);
  }

  #move(event: KeyboardEvent): void {
    const choices = this.#choices();
    const at = choices.findIndex((choice) => choice === document.activeElement);
    const step: Partial<Record<string, number>> = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: choices.length - 1 };
    const next = step[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choices[(next + choices.length) % choices.length]?.focus();
  }

  readonly #outside = (event: PointerEvent): void => {
    const target = event.target instanceof Node ? event.target : null;
    if (!this.#content.contains(target) && !this.#opener.contains(target)) this.close(false);
  };
}
