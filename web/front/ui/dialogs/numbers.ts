/** Numbers that people compare: of two, for ever; and of everybody in the call, for now. */
import type { Identity, Participant, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { button, make, on_change, set_attribute, set_hidden } from "../dom.ts";
import { icon } from "../icons.ts";
import { qr_picture } from "../qr/picture.ts";
import { digit_groups, name_of, one_line, sentences } from "../text.ts";
import { trouble_of } from "../words.ts";
import type { Dialogs } from "./dialog.ts";
import { own_page } from "./own_page.ts";

/** Sixty digits, five at a time, as they are read aloud. */
function digits(number: string, label: string): HTMLElement {
  const groups = digit_groups(number).map((group) => make("li", {}, group));
  return make("ol", { class: "digits", "aria-label": label, dir: "ltr" }, ...groups);
}

/** Follows somebody of the call while a dialog about them is open. */
function follow(context: Context, show: (state: State) => void): () => void {
  show(context.engine.state);
  return context.engine.subscribe(show);
}

export function open_verify(context: Context, dialogs: Dialogs, who: Identity): void {
  const { engine, words } = context;
  const { verify } = words;
  const find = (state: State): Participant | undefined => state.people.find((person) => person.identity === who);
  const person = find(engine.state);
  const name = person === undefined ? one_line(who, 64) : name_of(person);

  const number = make("div", { class: "number", "aria-live": "polite" }, make("p", { class: "hint" }, verify.waiting));
  const same = button({ class: "strong" }, () => {
    context.run(() => engine.set_verified(who, true));
  }, icon("check"), verify.same);
  const advice = make("p", { class: "advice", role: "alert" });
  const differ = button({}, () => {
    const { what, why, todo } = verify.differ_advice;
    advice.textContent = `${what} ${why} ${todo}`;
  }, verify.differ);
  const take_back = button({ class: "quiet" }, () => {
    context.run(() => engine.set_verified(who, false));
  }, verify.take_back);
  const changed = make("div", { class: "changed", role: "alert" }, icon("warning"), make("p", {}, make("strong", {}, verify.changed(name)), ` ${verify.changed_why(name)} ${verify.changed_todo}`));
  const verified = make("p", { class: "verified", role: "status" }, icon("shield"), verify.verified(name));
  const acts = make("div", { class: "acts" }, same, differ);

  engine.person_number(who).then(
    (text) => {
      const picture = qr_picture(text, verify.picture);
      number.replaceChildren(digits(text, verify.number), picture === undefined ? "" : make("div", { class: "qr-frame" }, picture));
    },
    (reason: unknown) => {
      number.replaceChildren(make("p", {}, sentences(trouble_of(reason, words).what)));
    },
  );
  const show_trust = on_change((trust: Participant["trust"] | undefined) => {
    set_hidden(changed, trust !== "changed");
    set_hidden(verified, trust !== "verified");
    set_hidden(acts, trust === "verified");
    set_hidden(take_back, trust !== "verified");
    if (trust === "verified") advice.textContent = "";
    set_attribute(number, "data-trust", trust);
  });
  const stop = follow(context, (state) => {
    show_trust(find(state)?.trust);
  });
  dialogs.open(
    "verify",
    verify.heading(name),
    [changed, verified, make("p", {}, verify.proves(name)), make("p", { class: "hint" }, verify.how(name)), number, advice, acts, take_back],
    stop,
  );
}

export function open_safety(context: Context, dialogs: Dialogs): void {
  const { safety } = context.words;
  const number = make("div", { class: "number" });
  const me = make("code", {});
  const show_number = on_change((text: string | undefined) => {
    number.replaceChildren(text === undefined ? make("p", { class: "hint" }, safety.waiting) : digits(text, safety.number));
  });
  const stop = follow(context, (state) => {
    show_number(state.safety_number);
    me.textContent = one_line(state.me.fingerprint, 200);
  });
  const content = [
    make("p", {}, safety.text),
    make("h3", {}, safety.number),
    number,
    make("p", { class: "hint" }, safety.same),
    make("p", { class: "hint" }, safety.compare),
    make("h3", {}, safety.me),
    me,
    make("h3", {}, safety.page),
    make("p", { class: "hint" }, location.protocol === "file:" ? safety.page_kept : safety.page_served),
    own_page(context),
  ];
  dialogs.open("safety", safety.heading, content, stop);
}
