import type { State, Trouble } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, on_change, set_attribute, set_hidden, set_text, type View } from "../dom.ts";
import { icon } from "../icons.ts";
import { sentences } from "../text.ts";
import { trouble_of } from "../words.ts";

/** No link is longer; a paste of a whole document is none. */
const LINK_CHARACTERS_MAX = 8192;

/** A field for a link, and what to do without one. */
export function link_form(context: Context, back?: () => void): View<State> {
  const { engine, words } = context;
  const { no_link } = words;
  const field = make("input", {
    id: "link", type: "text", inputmode: "url", autocomplete: "off", autocapitalize: "off", spellcheck: "false", dir: "ltr",
    placeholder: no_link.example, "aria-describedby": "link-trouble link-where", maxlength: LINK_CHARACTERS_MAX,
  });
  const trouble = make("p", { id: "link-trouble", class: "trouble", role: "alert" });
  const show = (problem: Trouble | undefined): void => {
    set_hidden(trouble, problem === undefined);
    set_attribute(field, "aria-invalid", problem === undefined ? undefined : "true");
    set_text(trouble, problem === undefined ? "" : sentences(problem.what, problem.why, problem.todo));
  };
  const open = make("button", { type: "submit", class: "strong main" }, no_link.open);
  const form = make(
    "form",
    { class: "link-form" },
    make("label", { for: "link" }, no_link.label),
    field,
    trouble,
    open,
    make("p", { id: "link-where", class: "hint" }, no_link.where),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value.trim();
    if (text === "") {
      show(no_link.empty);
      field.focus();
      return;
    }
    open.disabled = true;
    engine.open_link(text).then(
      () => {
        open.disabled = false;
      },
      (reason: unknown) => {
        open.disabled = false;
        show(trouble_of(reason, words));
        field.focus();
      },
    );
  });
  const show_why = on_change(show);
  const element = make(
    "section",
    { class: "card" },
    make("p", { class: "brand" }, icon("lock"), words.product),
    make("h1", { tabindex: -1 }, no_link.heading),
    make("p", {}, no_link.explanation),
    form,
    back !== undefined && button({ class: "quiet" }, back, words.door.back),
  );
  return {
    element,
    update: ({ phase }) => {
      if (phase.kind === "no-link") show_why(phase.why);
    },
  };
}
