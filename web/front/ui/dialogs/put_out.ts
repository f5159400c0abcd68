import type { Identity } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make } from "../dom.ts";
import { name_of, one_line } from "../text.ts";
import type { Dialogs } from "./dialog.ts";

/** Asks once more: it cannot be taken back. */
export function open_put_out(context: Context, dialogs: Dialogs, who: Identity): void {
  const { put_out } = context.words;
  const person = context.engine.state.people.find(({ identity }) => identity === who);
  const name = person === undefined ? one_line(who, 64) : name_of(person);
  const keep = button({ autofocus: true }, () => {
    dialog.close();
  }, put_out.no);
  const out = button({ class: "danger" }, () => {
    dialog.close();
    context.run(() => context.engine.kick(who));
  }, put_out.yes);
  const dialog = dialogs.open("put-out", put_out.heading(name), [make("p", {}, put_out.text(name)), make("div", { class: "acts" }, keep, out)]);
}
