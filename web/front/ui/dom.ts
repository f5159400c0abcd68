/**
 * How the screens make elements and keep them in step with a state. Whatever is given as text becomes text: nothing here
 * reads HTML, and no `style` attribute is ever set, for the page's policy forbids both.
 */

export type Child = Node | string | undefined | false;
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>> & { readonly style?: never };

/** Something on the screen that follows a part of the state. */
export interface View<T> {
  readonly element: HTMLElement;
  update(item: T): void;
  /** Gives back what it was lent: canvases, timers, listeners elsewhere. */
  close?(): void;
}

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set_attribute(element, name, value);
  for (const child of children) if (child !== undefined && child !== false) element.append(child);
  return element;
}

/** A button that does one thing. */
export function button(attributes: Attributes, on_click: (event: MouseEvent) => void, ...children: readonly Child[]): HTMLButtonElement {
  const element = make("button", { type: "button", ...attributes }, ...children);
  element.addEventListener("click", on_click);
  return element;
}

/** Sets an attribute if it is not so already, for even the same value makes work. `true` is the attribute without a value. */
export function set_attribute(element: Element, name: string, value: string | number | boolean | undefined): void {
  if (value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

export function set_text(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function set_hidden(element: HTMLElement, hidden: boolean): void {
  if (element.hidden !== hidden) element.hidden = hidden;
}

/** Calls `then` with the value at first and whenever it is another. */
export function on_change<T>(then: (value: T) => void): (value: T) => void {
  let last: { readonly value: T } | undefined;
  return (value) => {
    if (last !== undefined && Object.is(last.value, value)) return;
    last = { value };
    then(value);
  };
}

/** Children of `parent`, one for each item: what stays is the same element, so focus, scroll and pictures stay as well. */
export class KeyedList<T, V extends View<T>> {
  readonly #parent: HTMLElement;
  readonly #key: (item: T) => string;
  readonly #make: (item: T) => V;
  /** Has the focus when the element that had it goes. */
  readonly #refuge: HTMLElement | undefined;
  readonly #views = new Map<string, V>();

  constructor(parent: HTMLElement, key: (item: T) => string, make_view: (item: T) => V, refuge?: HTMLElement) {
    this.#parent = parent;
    this.#key = key;
    this.#make = make_view;
    this.#refuge = refuge;
  }

  update(items: readonly T[]): void {
    // By key: were there two of one key, the later one would count.
    const wanted = new Map(items.map((item) => [this.#key(item), item]));
    for (const [key, view] of this.#views) if (!wanted.has(key)) this.#remove(key, view);
    let next = this.#parent.firstElementChild;
    for (const [key, item] of wanted) {
      let view = this.#views.get(key);
      if (view === undefined) {
        view = this.#make(item);
        this.#views.set(key, view);
      }
      if (view.element === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(view.element, next);
      view.update(item);
    }
  }

  get(key: string): V | undefined {
    return this.#views.get(key);
  }

  views(): IterableIterator<V> {
    return this.#views.values();
  }

  close(): void {
    for (const [key, view] of this.#views) this.#remove(key, view);
  }

  #remove(key: string, view: V): void {
    const had_focus = view.element.contains(document.activeElement);
    view.close?.();
    view.element.remove();
    this.#views.delete(key);
    if (had_focus) this.#refuge?.focus();
  }
}
