/** A canvas lent to the engine for somebody's camera or screen, and whether to cut or to frame what is in it. */
import type { Device, Engine } from "../contract.ts";
import { make, set_attribute } from "./dom.ts";

/** A picture is cut to its tile if at least this share of it is left: people sit in the middle, and sides can go. Beyond, it
 *  is framed. */
const KEPT_OF_WIDTH_MIN = 0.35;
/** What is cut above would be heads. */
const KEPT_OF_HEIGHT_MIN = 0.62;

export class Picture {
  readonly element: HTMLCanvasElement;
  readonly #engine: Engine;
  readonly #who: Device;
  readonly #what: "camera" | "screen";
  #shown = false;

  constructor(engine: Engine, who: Device, what: "camera" | "screen", is_mirrored: boolean) {
    this.#engine = engine;
    this.#who = who;
    this.#what = what;
    // What it shows is told by the tile around it.
    this.element = make("canvas", { class: `picture ${what}`, "aria-hidden": "true", "data-mirrored": is_mirrored });
    this.element.hidden = true;
  }

  /** Must be in the document by then. */
  show(shown: boolean): void {
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.element.hidden = !shown;
    this.#engine.show(this.#who, this.#what, shown ? this.element : undefined);
  }

  /** Looks at the shape of what has come, for a tile of this size. */
  fit(width: number, height: number): void {
    if (!this.#shown || this.#what === "screen" || width <= 0 || height <= 0) return;
    const { width: columns, height: rows } = this.element;
    if (columns === 0 || rows === 0) return;
    const ratio = columns / rows / (width / height);
    set_attribute(this.element, "data-framed", ratio > 1 ? 1 / ratio < KEPT_OF_WIDTH_MIN : ratio < KEPT_OF_HEIGHT_MIN);
  }

  close(): void {
    this.show(false);
  }
}
