// The page's beginning: the engine, the screens, and the link that the page was opened by.
import { PageEngine } from "./engine/engine.ts";
import { RUNG } from "./engine/push.ts";
import { App } from "./ui/app.ts";
import { choose_words } from "./ui/words.ts";

const engine = new PageEngine();

/** A link that cannot be read is told of by the engine's state; so is a relay that cannot be reached. */
async function open_own_link(): Promise<void> {
  if (location.hash.length > 1) await engine.open_link(location.hash).catch(() => undefined);
  else if (location.search === RUNG) await engine.come_when_rung().catch(() => undefined);
}

const app = new App(engine, choose_words(navigator.languages), open_own_link());
document.body.append(app.element);
if ("serviceWorker" in navigator) {
  // The script that is woken has found this page open.
  navigator.serviceWorker.addEventListener("message", () => {
    void engine.come_when_rung().catch(() => undefined);
  });
}
window.addEventListener("hashchange", () => {
  // In a call the link that is wanted is another call's, and one does not leave by accident.
  if (engine.state.phase.kind !== "in") void open_own_link();
});
