/** The screen of the call. */
import type { State } from "../../contract.ts";
import type { Context, Destination } from "../context.ts";
import type { Dialogs } from "../dialogs/dialog.ts";
import { open_invite } from "../dialogs/invite.ts";
import { open_safety, open_verify } from "../dialogs/numbers.ts";
import { open_put_out } from "../dialogs/put_out.ts";
import { open_devices, open_figures, open_shortcuts } from "../dialogs/sheets.ts";
import { make, set_attribute, set_hidden, type View } from "../dom.ts";
import { listen } from "../shortcuts.ts";
import { Bar, type PanelName } from "./bar.ts";
import { Chat } from "./chat.ts";
import { People } from "./people.ts";
import { Stage } from "./stage.ts";
import { Top } from "./top.ts";

/** What the call leads to outside of it. */
export interface Around {
  readonly to_notices: () => void;
  readonly panel_changed: (panel: PanelName | undefined) => void;
}

export class Call implements View<State> {
  readonly element: HTMLElement;
  readonly #context: Context;
  readonly #dialogs: Dialogs;
  readonly #around: Around;
  readonly #top: Top;
  readonly #stage: Stage;
  readonly #bar: Bar;
  readonly #chat: Chat;
  readonly #people: People;
  readonly #side = make("aside", { class: "side" });
  readonly #drop: HTMLElement;
  readonly #stops: (() => void)[] = [];
  #open: PanelName | undefined;
  #held = false;

  constructor(context: Context, dialogs: Dialogs, around: Around) {
    this.#context = context;
    this.#dialogs = dialogs;
    this.#around = around;
    const close_panel = (): void => {
      this.show_panel(undefined);
    };
    this.#top = new Top(context);
    this.#stage = new Stage(context);
    this.#chat = new Chat(context, close_panel);
    this.#people = new People(context, close_panel);
    this.#bar = new Bar(context, (panel) => {
      this.#toggle_panel(panel);
    });
    this.#drop = make("div", { class: "drop", hidden: true }, context.words.chat.drop);
    this.element = make("div", { class: "call" }, this.#top.element, make("div", { class: "middle" }, this.#stage.element, this.#side), make("footer", {}, this.#bar.element), this.#drop);
    this.#stops.push(this.#listen(), this.#listen_escape(), this.#listen_drop());
  }

  /** Of chat lines nobody has seen here. */
  get unread(): number {
    return this.#chat.unread;
  }

  update(state: State): void {
    this.#top.update(state);
    this.#stage.update(state);
    this.#people.update(state);
    this.#chat.update(state);
    this.#bar.update(state, this.#chat.unread, this.#open);
  }

  go(to: Destination): void {
    switch (to.kind) {
      case "people":
      case "chat":
        this.show_panel(to.kind);
        break;
      case "invite":
        open_invite(this.#context, this.#dialogs);
        break;
      case "safety":
        open_safety(this.#context, this.#dialogs);
        break;
      case "devices":
        open_devices(this.#context, this.#dialogs);
        break;
      case "figures":
        open_figures(this.#context, this.#dialogs);
        break;
      case "shortcuts":
        open_shortcuts(this.#context, this.#dialogs);
        break;
      case "verify":
        open_verify(this.#context, this.#dialogs, to.who);
        break;
      case "put-out":
        open_put_out(this.#context, this.#dialogs, to.who);
        break;
      case "link":
        break;
    }
  }

  show_panel(panel: PanelName | undefined): void {
    const before = this.#open;
    this.#open = panel;
    const view = panel === "chat" ? this.#chat : panel === "people" ? this.#people : undefined;
    const had_focus = this.#side.contains(document.activeElement);
    this.#side.replaceChildren(...(view === undefined ? [] : [view.element]));
    set_attribute(this.element, "data-panel", panel);
    this.#around.panel_changed(panel);
    if (panel === "chat") {
      this.#chat.opened();
      this.#chat.field.focus();
    } else if (panel === "people") this.#people.heading.focus();
    else if (before !== undefined && had_focus) this.#bar.focus_panel_button(before);
    this.#bar.update(this.#context.engine.state, this.#chat.unread, this.#open);
  }

  #toggle_panel(panel: PanelName): void {
    this.show_panel(this.#open === panel ? undefined : panel);
  }

  #listen(): () => void {
    const { engine } = this.#context;
    return listen(
      {
        keys: {
          m: () => { this.#bar.toggle("microphone"); },
          v: () => { this.#bar.toggle("camera"); },
          s: () => { this.#bar.toggle("screen"); },
          c: () => { this.#toggle_panel("chat"); },
          p: () => { this.#toggle_panel("people"); },
          r: () => { this.#bar.toggle_reactions(); },
          i: () => { this.go({ kind: "invite" }); },
          n: this.#around.to_notices,
          "?": () => { this.go({ kind: "shortcuts" }); },
        },
        hold: (held) => {
          if (held && engine.state.mine.microphone === "off") {
            this.#held = true;
            this.#context.run(() => engine.set_microphone(true));
          } else if (!held && this.#held) {
            this.#held = false;
            this.#context.run(() => engine.set_microphone(false));
          }
        },
      },
      () => this.#dialogs.is_open,
    );
  }

  #listen_escape(): () => void {
    const escape = (event: KeyboardEvent): void => {
      if (event.key !== "Escape" || this.#dialogs.is_open || event.isComposing) return;
      if (!this.#bar.close_popups() && this.#open !== undefined) {
        const panel = this.#open;
        this.show_panel(undefined);
        if (document.activeElement === document.body) this.#bar.focus_panel_button(panel);
      }
    };
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("keydown", escape);
    };
  }

  /** Files that are dropped anywhere on the call are offered in the chat. */
  #listen_drop(): () => void {
    const brings_files = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    const over = (event: DragEvent): void => {
      if (!brings_files(event)) return;
      event.preventDefault();
      set_hidden(this.#drop, false);
    };
    const out = (event: DragEvent): void => {
      if (event.relatedTarget === null) set_hidden(this.#drop, true);
    };
    const drop = (event: DragEvent): void => {
      set_hidden(this.#drop, true);
      if (!brings_files(event)) return;
      event.preventDefault();
      this.show_panel("chat");
      this.#chat.offer([...(event.dataTransfer?.files ?? [])]);
    };
    document.addEventListener("dragover", over);
    document.addEventListener("dragleave", out);
    document.addEventListener("drop", drop);
    return () => {
      document.removeEventListener("dragover", over);
      document.removeEventListener("dragleave", out);
      document.removeEventListener("drop", drop);
    };
  }

  close(): void {
    for (const stop of this.#stops) stop();
    this.#stage.close();
  }
}
