// The page's beginning: the engine, the screens, and the link that the page was opened by.
import { PageEngine } from "./engine/engine.ts";
import { App } from "./ui/app.ts";
import { choose_words } from "./ui/words.ts";

const engine = new PageEngine();

/** A link that cannot be read is told of by the engine's state. */
async function open_own_link(): Promise<void> {
  if (location.hash.length > 1) await engine.open_link(location.hash).catch(() => undefined);
}

const app = new App(engine, choose_words(navigator.languages), open_own_link());
document.body.append(app.element);
window.addEventListener("hashchange", () => {
  // In a call the link that is wanted is another call's, and one does not leave by accident.
  if (engine.state.phase.kind !== "in") void open_own_link();
});
