import type { Context } from "../context.ts";
import { button, make, set_text } from "../dom.ts";
import { icon } from "../icons.ts";
import { qr_picture } from "../qr/picture.ts";
import { sentences } from "../text.ts";
import { trouble_of, type Words } from "../words.ts";
import type { Dialogs } from "./dialog.ts";
import { waking_part } from "./waking.ts";

/** How long "Copied" stands on the button. */
const COPIED_MS = 2500;

/** A link to be given to others: as text, by the system's own way of sharing, and as a picture. */
function link_part(context: Context, name: string, hint: string, link: Promise<string>): HTMLElement {
  const { invite } = context.words;
  const field = make("input", { type: "text", readonly: true, "aria-label": name, spellcheck: "false", dir: "ltr" });
  field.addEventListener("focus", () => {
    field.select();
  });
  const copy_text = make("span", {}, invite.copy);
  const copy = button({ class: "strong", disabled: true }, () => {
    navigator.clipboard.writeText(field.value).then(
      () => {
        said(invite.copied);
      },
      () => {
        field.select();
        said(invite.not_copied);
      },
    );
  }, icon("copy"), copy_text);
  const said = (text: string): void => {
    context.announce(text);
    set_text(copy_text, text === invite.copied ? text : invite.copy);
    set_text(state, text === invite.copied ? "" : text);
    setTimeout(() => {
      set_text(copy_text, invite.copy);
    }, COPIED_MS);
  };
  const state = make("p", { class: "hint" }, invite.waiting);
  const picture = make("div", { class: "qr-frame" });
  const row = make("div", { class: "row" }, field, copy);
  link.then(
    (text) => {
      field.value = text;
      copy.disabled = false;
      set_text(state, "");
      picture.replaceChildren(qr_picture(text, invite.picture) ?? make("p", { class: "hint" }, invite.too_long));
      if (typeof navigator.share === "function") {
        row.append(button({}, () => {
          // Whoever closes the system's sheet has not met with an error.
          navigator.share({ title: context.words.product, url: text }).catch(() => undefined);
        }, icon("share"), invite.share));
      }
    },
    (reason: unknown) => {
      const { what, todo } = trouble_of(reason, context.words);
      set_text(state, sentences(what, todo));
    },
  );
  return make("section", { class: "link-part" }, make("h3", {}, name), make("p", {}, hint), row, state, picture);
}

export function open_invite(context: Context, dialogs: Dialogs): void {
  const { invite }: Words = context.words;
  const { engine } = context;
  const ticket = make("div", {});
  ticket.append(
    button({ class: "quiet" }, () => {
      const part = link_part(context, invite.ticket, invite.ticket_hint, engine.ticket_link());
      ticket.replaceChildren(part);
      part.querySelector("input")?.focus();
    }, icon("ring"), invite.show_ticket),
  );
  dialogs.open("invite", invite.heading, [link_part(context, invite.room, invite.room_hint(engine.state.lobby), engine.room_link()), ticket, waking_part(context)]);
}
