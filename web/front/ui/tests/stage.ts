/** The page of the screens' tests: the screens as they are, on an engine that tests tell what to say. */
import { App } from "../app.ts";
import { english } from "../words.ts";
import { SCENES } from "./scenes.ts";
import { people, person, Scripted, text_said, DEVICES, FIRST, RELAY } from "./scripted.ts";

const engine = new Scripted();
const app = new App(engine, english);
document.body.append(app.element);

const kit = { engine, app, person, people, text_said, DEVICES, FIRST, RELAY, scenes: SCENES };
export type Kit = typeof kit;
declare global {
  interface Window {
    kit: Kit;
  }
}
window.kit = kit;
