/** Single keys, and what they do. They can be turned off, for whoever steers by speech or types by accident (WCAG 2.1.4). */

const KEPT_AS = "supernode.shortcuts";

export function shortcuts_enabled(): boolean {
  try {
    return localStorage.getItem(KEPT_AS) !== "off";
  } catch {
    return true;
  }
}

export function enable_shortcuts(on: boolean): void {
  try {
    localStorage.setItem(KEPT_AS, on ? "on" : "off");
  } catch {
    // A browser that keeps nothing for this page: then it is as before next time.
  }
}

export interface Shortcuts {
  readonly keys: Readonly<Record<string, () => void>>;
  /** While the space bar is held, and when it is let go. */
  readonly hold: (held: boolean) => void;
}

/** Listens until the returned function is called. */
export function listen(shortcuts: Shortcuts, is_blocked: () => boolean): () => void {
  let held = false;
  const release = (): void => {
    if (held) shortcuts.hold(false);
    held = false;
  };
  const down = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || is_blocked() || !shortcuts_enabled()) return;
    if (types_text(event.target)) return;
    if (event.key === " ") {
      // On a button the space bar presses the button.
      if (uses_space(event.target)) return;
      event.preventDefault();
      if (!event.repeat && !held) {
        held = true;
        shortcuts.hold(true);
      }
      return;
    }
    const does = shortcuts.keys[event.key.toLowerCase()];
    if (does === undefined || event.repeat) return;
    event.preventDefault();
    does();
  };
  const up = (event: KeyboardEvent): void => {
    if (event.key === " ") release();
  };
  document.addEventListener("keydown", down);
  document.addEventListener("keyup", up);
  window.addEventListener("blur", release);
  return () => {
    release();
    document.removeEventListener("keydown", down);
    document.removeEventListener("keyup", up);
    window.removeEventListener("blur", release);
  };
}

function types_text(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
}

function uses_space(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("button, a, summary, [role=log]") !== null;
}
