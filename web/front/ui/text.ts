/** Text from others and numbers, made fit to be shown. */

/** Longest name that is shown: as long as the engine lets one be. */
const NAME_CHARACTERS_MAX = 64;
/** Longest name of a file that is shown; its middle is left out first, for its end says what it is. */
const FILE_NAME_CHARACTERS_MAX = 80;
/** Most of one chat line that is shown: what people read; somebody may send a megabyte. */
export const CHAT_CHARACTERS_MAX = 4000;

/** What turns the direction of text, or is no character to be seen. An element isolates it; a title cannot. */
const INVISIBLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
/** Marks above and below letters, of which a few are language and many are a tower. */
const MARKS = /(\p{M}{4})\p{M}+/gu;

/** A text in one line: nothing in it turns or hides what stands beside it. */
export function one_line(text: string, characters_max: number): string {
  // Cut first: what comes after would be thrown away, and may be long.
  const bounded = text.slice(0, characters_max * 8).replace(/\s/g, " ").replace(INVISIBLE, "").replace(MARKS, "$1").trim();
  const characters = Array.from(bounded);
  return characters.length > characters_max ? `${characters.slice(0, characters_max - 1).join("")}…` : bounded;
}

/** Longest part of what went wrong that is shown. */
const SENTENCE_CHARACTERS_MAX = 400;

/** What happened, why and what to do, as sentences, whoever wrote them: programs write neither capitals nor full stops. */
export function sentences(...parts: readonly (string | undefined)[]): string {
  const told = parts.map((part) => one_line(part ?? "", SENTENCE_CHARACTERS_MAX)).filter((part) => part !== "");
  return told.map((part) => `${part.slice(0, 1).toLocaleUpperCase()}${part.slice(1)}${/[.!?…:)]$/u.test(part) ? "" : "."}`).join(" ");
}

/** What somebody is called: their name, or the beginning of their identity if they have not said one. */
export function name_of(person: { readonly name: string; readonly identity: string }): string {
  return one_line(person.name, NAME_CHARACTERS_MAX) || short_identity(person.identity);
}

/** Enough of an identity to tell two apart at a glance. It proves nothing. */
export function short_identity(identity: string): string {
  const text = one_line(identity, 200);
  return text.length > 12 ? `${text.slice(0, 8)}…` : text;
}

/** A name within a sentence that is no element of its own (a title, a label): kept from turning the rest around. */
export function isolated(text: string): string {
  return `\u2068${text}\u2069`;
}

/** Whether a text is written from right to left, by its first letter that says so. */
const FIRST_STRONG = /\p{L}/u;
const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;
/** A name for an attribute, isolated only where it has to be: screen readers spell out needless marks. */
export function in_sentence(name: string): string {
  return RIGHT_TO_LEFT.test(name) ? isolated(name) : name;
}

export function file_name(name: string): string {
  const text = Array.from(one_line(name, 1000));
  if (text.length <= FILE_NAME_CHARACTERS_MAX) return text.join("");
  const end = 16;
  return `${text.slice(0, FILE_NAME_CHARACTERS_MAX - end - 1).join("")}…${text.slice(-end).join("")}`;
}

/** What fits of a chat line, and how many characters do not. */
export function chat_text(text: string): { readonly shown: string; readonly left_out: number } {
  if (text.length <= CHAT_CHARACTERS_MAX) return { shown: text.replace(MARKS, "$1"), left_out: 0 };
  // Not between the two halves of one character.
  const last = text.charCodeAt(CHAT_CHARACTERS_MAX - 1);
  const end = last >= 0xd800 && last <= 0xdbff ? CHAT_CHARACTERS_MAX - 1 : CHAT_CHARACTERS_MAX;
  return { shown: text.slice(0, end).replace(MARKS, "$1"), left_out: text.length - end };
}

const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** The first character as people count them, whatever it is made of; at most 16 units of it. */
export function first_character(text: string): string {
  for (const { segment } of segmenter.segment(text.slice(0, 64))) return segment.slice(0, 16);
  return "";
}

/** One or two letters that stand for a name. */
export function initials(name: string): string {
  const parts = name.split(/[\s_.-]+/u).filter((part) => FIRST_STRONG.test(part));
  const first = parts[0] ?? name;
  const last = parts.length > 1 ? (parts[parts.length - 1] ?? "") : "";
  return (first_character(first) + first_character(last)).toLocaleUpperCase();
}

/** One of `count`, always the same for an identity. */
export function colour_of(identity: string, count: number): number {
  let hash = 2166136261;
  for (let at = 0; at < Math.min(identity.length, 128); at++) hash = Math.imul(hash ^ identity.charCodeAt(at), 16777619);
  return (hash >>> 0) % count;
}

/** Digits in groups of five, without what is no digit. */
export function digit_groups(number: string): string[] {
  return number.replace(/\D/g, "").slice(0, 120).match(/\d{1,5}/g) ?? [];
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];
/** A size as people read it: "4.2 MB". */
export function bytes_in_words(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes < 0) return "?";
  let size = bytes;
  let unit = 0;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || size >= 9.95 ? size.toFixed(0) : size.toFixed(1);
  return `${digits} ${UNITS[unit] ?? ""}`;
}

/** The time of day, as this device writes it. */
export function time_of_day(unix_ms: number): string {
  const date = new Date(unix_ms);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}
