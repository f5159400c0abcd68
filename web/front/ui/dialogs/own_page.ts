/** What this page is, by its SHA-256, and whether that is the one that somebody was sent by another way. */
import type { Trouble } from "../../contract.ts";
import type { Context } from "../context.ts";
import { make, set_attribute, set_hidden } from "../dom.ts";
import { sentences } from "../text.ts";
import { type Words } from "../words.ts";

const HEX_DIGITS = 64;

/** What somebody pasted, if it is a SHA-256: the first words of `sha256sum` and of the relay's program are. */
export function parse_sha256(text: string): string | undefined {
  const digits = text.replace(/^\s*(?:sha-?256[:=-]?)?/i, "").replace(/[\s:]+/g, "").toLowerCase().slice(0, HEX_DIGITS);
  return /^[0-9a-f]{64}$/.test(digits) ? digits : undefined;
}

export async function sha256(bytes: ArrayBuffer): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What came from the server when the page was opened, or what it sends now if that was not kept. */
async function served(words: Words): Promise<ArrayBuffer | Trouble> {
  const [address = ""] = location.href.split("#");
  const read = async () => {
    const answer = await fetch(address, { cache: "force-cache" });
    return answer.ok ? await answer.arrayBuffer() : words.own_page.not_served;
  };
  return await read().catch(() => words.own_page.not_served);
}

/** A page cannot read its own file by itself. */
async function chosen(words: Words, input: HTMLInputElement): Promise<ArrayBuffer | Trouble> {
  const file = input.files?.[0];
  return file === undefined ? words.own_page.no_file : await file.arrayBuffer();
}

export function own_page(context: Context): HTMLElement {
  const { words } = context;
  const text = words.own_page;
  const kept = location.protocol === "file:";
  const expected = make("input", { type: "text", autocomplete: "off", spellcheck: "false", maxlength: 200, dir: "ltr" });
  const file = make("input", { type: "file", accept: "text/html,.html" });
  const is = make("code", { dir: "ltr" });
  const verdict = make("p", { role: "status" });
  const result = make("div", { class: "result" }, make("p", { class: "hint" }, text.is), is, verdict);
  set_hidden(result, true);

  const tell = (kind: "same" | "different" | "unknown", said: string) => {
    set_attribute(result, "data-verdict", kind);
    verdict.textContent = said;
  };
  const compare = async () => {
    const wanted = parse_sha256(expected.value);
    const is_wrong = wanted === undefined && expected.value.trim() !== "";
    set_attribute(expected, "aria-invalid", is_wrong);
    set_hidden(result, false);
    const page = await (kept ? chosen(words, file) : served(words));
    if (!(page instanceof ArrayBuffer)) {
      is.textContent = "";
      tell("unknown", sentences(page.what, page.why, page.todo));
      return;
    }
    const own = await sha256(page);
    is.textContent = own;
    if (is_wrong) tell("unknown", text.no_hash);
    else if (wanted === undefined) tell("unknown", text.compare_it);
    else if (wanted === own) tell("same", text.same);
    else tell("different", text.different);
  };
  const form = make(
    "form",
    { class: "own-page", novalidate: true },
    kept && make("label", {}, text.file, file),
    make("label", {}, text.expected, expected),
    make("button", { type: "submit" }, text.compare),
    result,
    make("p", { class: "hint" }, text.limits),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void compare();
  });
  return form;
}
