import type { Waking } from "../../contract.ts";
import type { Context } from "../context.ts";
import { make, set_text } from "../dom.ts";
import { trouble_of } from "../words.ts";

/** Whether this page is woken when somebody rings while it is closed: one checkbox, and what it tells whom. */
export function waking_part(context: Context): HTMLElement {
  const { waking } = context.words;
  const { engine } = context;
  const box = make("input", { type: "checkbox", disabled: true, "aria-describedby": "waking-hint" });
  const hint = make("p", { class: "hint", id: "waking-hint" }, waking.hint);
  const state = make("p", { class: "hint", role: "status" }, "");
  const show = (now: Waking): void => {
    box.checked = now.on;
    box.disabled = !now.can;
    set_text(state, now.why === undefined ? "" : [now.why.what, now.why.why, now.why.todo].filter((part) => part !== undefined).join(" "));
  };
  const failed = (reason: unknown): void => {
    const { what, why, todo } = trouble_of(reason, context.words);
    set_text(state, [what, why, todo].filter((part) => part !== undefined).join(" "));
  };
  const look = (): Promise<void> => engine.waking().then(show);
  box.addEventListener("change", () => {
    const on = box.checked;
    box.disabled = true;
    set_text(state, "");
    // In the click itself: browsers ask the person only then.
    engine.set_waking(on).then(look, (reason: unknown) => {
      box.checked = !on;
      box.disabled = false;
      failed(reason);
    });
  });
  look().catch(failed);
  return make("section", { class: "link-part" }, make("label", { class: "switch" }, box, waking.name), hint, state);
}
