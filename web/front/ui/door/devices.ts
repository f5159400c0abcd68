import type { Devices, MediaDevice, State } from "../../contract.ts";
import type { Context } from "../context.ts";
import { make, on_change, set_hidden, type View } from "../dom.ts";
import { one_line } from "../text.ts";

const KINDS = ["microphone", "camera", "speaker"] as const;
type Kind = (typeof KINDS)[number];

/** Which microphone, camera and speaker. */
export class DevicePicker implements View<State> {
  readonly element = make("div", { class: "devices" });
  readonly #show: (devices: Devices) => void;

  constructor(context: Context) {
    const { words, engine } = context;
    const not_allowed = make("p", { class: "hint" }, words.devices.not_allowed);
    const fields = KINDS.map((kind) => {
      const select = make("select", { name: kind });
      select.addEventListener("change", () => {
        context.run(() => engine.choose(kind, select.value));
      });
      this.element.append(make("label", { class: "field" }, make("span", {}, words.devices[kind]), select));
      return { kind, select };
    });
    this.element.append(not_allowed);
    this.#show = on_change((devices) => {
      for (const { kind, select } of fields) fill(select, kind, devices, context);
      const all = [...devices.microphones, ...devices.cameras];
      set_hidden(not_allowed, all.some(({ label }) => label !== ""));
    });
  }

  update({ devices }: State): void {
    this.#show(devices);
  }
}

const LISTS = { microphone: "microphones", camera: "cameras", speaker: "speakers" } as const satisfies Record<Kind, keyof Devices>;
/** More than anybody has. */
const LISTED_MAX = 64;

function fill(select: HTMLSelectElement, kind: Kind, devices: Devices, { words }: Context): void {
  const list: readonly MediaDevice[] = devices[LISTS[kind]].slice(0, LISTED_MAX);
  const options = list.map(({ id, label }, at) => make("option", { value: id }, one_line(label, 80) || words.devices.unnamed(at + 1)));
  if (options.length === 0) options.push(make("option", { value: "" }, words.devices.none[kind]));
  select.replaceChildren(...options);
  select.disabled = list.length === 0;
  const chosen = devices[kind];
  if (chosen !== undefined) select.value = chosen;
}
