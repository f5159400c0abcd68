/** Sheets that are looked at and closed: devices, shortcuts, figures. */
import type { Figures } from "../../contract.ts";
import type { Context } from "../context.ts";
import { DevicePicker } from "../door/devices.ts";
import { Meter } from "../door/meter.ts";
import { make } from "../dom.ts";
import { enable_shortcuts, shortcuts_enabled } from "../shortcuts.ts";
import { bytes_in_words } from "../text.ts";
import type { Dialogs } from "./dialog.ts";

export function open_devices(context: Context, dialogs: Dialogs): void {
  const picker = new DevicePicker(context);
  const meter = new Meter(context);
  const show = (): void => {
    picker.update(context.engine.state);
    meter.update(context.engine.state);
  };
  show();
  const stop = context.engine.subscribe(show);
  dialogs.open("devices", context.words.devices.heading, [picker.element, meter.element], () => {
    stop();
    meter.close();
  });
}

export function open_shortcuts(context: Context, dialogs: Dialogs): void {
  const { shortcuts } = context.words;
  const enabled = make("input", { type: "checkbox", role: "switch" });
  enabled.checked = shortcuts_enabled();
  enabled.addEventListener("change", () => {
    enable_shortcuts(enabled.checked);
  });
  const rows = shortcuts.list.map(({ keys, does }) =>
    make("tr", {}, make("td", {}, ...keys.map((key) => make("kbd", {}, key))), make("td", {}, does)),
  );
  dialogs.open("shortcuts", shortcuts.heading, [
    make("label", { class: "switch" }, enabled, shortcuts.enabled),
    make("table", { class: "shortcuts" }, make("tbody", {}, ...rows)),
  ]);
}

/** How often figures are asked for while they are looked at. */
const FIGURES_EVERY_MS = 1000;

export function open_figures(context: Context, dialogs: Dialogs): void {
  const { figures } = context.words;
  const list = make("dl", { class: "figures" });
  const milliseconds = (value: number | undefined): string => (value === undefined ? figures.unknown : figures.milliseconds(value));
  const show = (found: Figures): void => {
    const rows: readonly (readonly [string, string])[] = [
      [figures.rtt, milliseconds(found.rtt_ms)],
      [figures.mouth_to_ear, milliseconds(found.mouth_to_ear_ms_p50)],
      [figures.heard, String(found.heard)],
      [figures.concealed, String(found.concealed)],
      [figures.silence, milliseconds(found.silence_ms_max)],
      [figures.seen, String(found.seen)],
      [figures.memory, found.memory_bytes === undefined ? figures.unknown : bytes_in_words(found.memory_bytes)],
    ];
    list.replaceChildren(...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  };
  const ask = (): void => {
    context.engine.figures().then(show, () => undefined);
  };
  ask();
  const timer = setInterval(ask, FIGURES_EVERY_MS);
  dialogs.open("figures", figures.heading, [make("p", { class: "hint" }, figures.text), list], () => {
    clearInterval(timer);
  });
}
