/** Screens between the others: on the way in, and when it is over. */
import type { LinkShown, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, on_change, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon } from "../icons.ts";
import { sentences } from "../text.ts";

type Step = "relay" | "knocking" | "ringing" | "keys";
type Stage = Readonly<Record<LinkShown["leads_to"], readonly Step[]>>;
/** What comes after what, by where the link leads. */
const STEPS: Stage = { room: ["relay", "knocking", "keys"], person: ["relay", "ringing", "keys"], relay: ["relay", "keys"] };

export class Entering implements View<State> {
  readonly element: HTMLElement;
  readonly #show: (step: Step) => void;

  constructor(context: Context, leads_to: LinkShown["leads_to"]) {
    const { words, engine } = context;
    const { entering } = words;
    const steps = STEPS[leads_to].map((step) => {
      const name = make("strong", {});
      const detail = make("p", { class: "hint" }, entering.steps[step].detail);
      const element = make("li", {}, make("span", { class: "mark", "aria-hidden": "true" }, icon("check")), make("div", {}, name, detail));
      return { step, name, detail, element };
    });
    const cancel = button({}, () => {
      context.run(() => engine.leave());
    }, entering.cancel);
    this.element = make(
      "section",
      { class: "card entering" },
      make("p", { class: "brand" }, icon("lock"), words.product),
      make("h1", { tabindex: -1 }, entering.heading[leads_to]),
      make("ol", { class: "steps" }, ...steps.map(({ element }) => element)),
      cancel,
    );
    this.#show = on_change((now) => {
      const at = STEPS[leads_to].indexOf(now);
      steps.forEach(({ step, name, detail, element }, index) => {
        const state = index < at ? "done" : index === at ? "now" : "later";
        set_attribute(element, "data-step", state);
        set_attribute(element, "aria-current", state === "now" ? "step" : undefined);
        set_text(name, state === "done" ? entering.steps[step].done : entering.steps[step].now);
        set_hidden(detail, state !== "now");
      });
      const { now: what, detail } = entering.steps[now];
      context.announce(`${what}. ${detail}`);
    });
  }

  update({ phase }: State): void {
    if (phase.kind === "entering") this.#show(phase.step);
  }
}

export class Over implements View<State> {
  readonly element: HTMLElement;
  readonly #show: (phase: State["phase"]) => void;

  /** `was_in` the call, or never got there. */
  constructor(context: Context, was_in: boolean) {
    const { words, engine } = context;
    const { over } = words;
    const heading = make("h1", { tabindex: -1, dir: "auto" });
    const text = make("p", { dir: "auto" });
    const todo = make("p", { class: "hint", dir: "auto" });
    const back = button({ class: "strong main" }, () => {
      context.run(() => engine.enter());
    }, was_in ? over.back : over.again);
    const other = button({ class: "quiet" }, () => {
      context.go({ kind: "link" });
    }, over.other_link);
    this.element = make("section", { class: "card" }, make("p", { class: "brand" }, icon("lock"), words.product), heading, text, todo, make("p", { class: "hint" }, over.left), back, other);
    this.#show = on_change((phase) => {
      if (phase.kind !== "over") return;
      const { why } = phase;
      set_text(heading, why === undefined ? over.heading : was_in ? over.heading_trouble : over.heading_outside);
      set_text(text, why === undefined ? "" : sentences(why.what, why.why));
      set_hidden(text, why === undefined);
      set_text(todo, sentences(why?.todo));
      set_hidden(todo, why?.todo === undefined);
      set_hidden(back, !phase.may_come_back);
    });
  }

  update({ phase }: State): void {
    this.#show(phase);
  }
}
