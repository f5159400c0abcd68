import assert from "node:assert/strict";
import { test } from "node:test";

import { bytes_in_words, chat_text, CHAT_CHARACTERS_MAX, colour_of, digit_groups, file_name, first_character, in_sentence, initials, name_of, one_line, sentences } from "./text.ts";

test("a name is one line without what turns text around or cannot be seen", () => {
  assert.equal(one_line("\u202eevil\u202c\n\tname\u0000\u200b", 64), "evil  name");
  assert.equal(one_line("   ", 64), "");
});

test("a name is cut by characters, not in the middle of one", () => {
  const cut = one_line("👩".repeat(100), 64);
  assert.equal(Array.from(cut).length, 64);
  assert.ok(cut.endsWith("…"));
  assert.ok(!/[\ud800-\udbff](?![\udc00-\udfff])/.test(cut));
});

test("a tower of marks becomes a few", () => {
  assert.equal(one_line(`a${"\u0301".repeat(500)}b`, 64), `a${"\u0301".repeat(4)}b`);
});

test("whoever has no name is told by their identity", () => {
  assert.equal(name_of({ name: " \u202e ", identity: "sn-id-abcdefghijkl" }), "sn-id-ab…");
  assert.equal(name_of({ name: "Ada", identity: "x" }), "Ada");
});

test("names from right to left are isolated within a sentence, others are left alone", () => {
  assert.equal(in_sentence("Ada"), "Ada");
  assert.equal(in_sentence("דנה"), "\u2068דנה\u2069");
});

test("a file's name keeps its end", () => {
  const name = file_name(`${"a".repeat(300)}.tar.gz`);
  assert.ok(name.endsWith(".tar.gz"));
  assert.equal(Array.from(name).length, 80);
  assert.equal(file_name("x\u202egnp.exe"), "xgnp.exe");
});

test("of a very long line a part is shown, and how much is not", () => {
  const { shown, left_out } = chat_text("x".repeat(1_000_000));
  assert.equal(shown.length, CHAT_CHARACTERS_MAX);
  assert.equal(left_out, 1_000_000 - CHAT_CHARACTERS_MAX);
  const split = chat_text(`${"x".repeat(CHAT_CHARACTERS_MAX - 1)}👩 and more`);
  assert.ok(!/[\ud800-\udbff]$/.test(split.shown));
});

test("initials are of the first and the last part", () => {
  assert.equal(initials("Ada Maria Okafor"), "AO");
  assert.equal(initials("mei"), "M");
  assert.equal(initials("🦊"), "🦊");
  assert.equal(initials(""), "");
});

test("a character is what people count as one", () => {
  assert.equal(first_character("👩‍👩‍👧 and more"), "👩‍👩‍👧");
  assert.ok(first_character(`a${"\u0301".repeat(1000)}`).length <= 16);
});

test("digits come in groups of five, whatever stands between them", () => {
  assert.deepEqual(digit_groups("30417 55920-1883"), ["30417", "55920", "1883"]);
});

test("sizes are as people read them", () => {
  for (const [bytes, words] of [[0, "0 B"], [999, "999 B"], [1000, "1.0 kB"], [999_600, "1.0 MB"], [4_230_000, "4.2 MB"], [43_000_000_000, "43 GB"], [NaN, "?"], [-1, "?"]] as const) {
    assert.equal(bytes_in_words(bytes), words);
  }
});

test("a colour is always the same, and one of those that there are", () => {
  assert.equal(colour_of("sn-id-abc", 10), colour_of("sn-id-abc", 10));
  for (let number = 0; number < 200; number++) assert.ok(colour_of(`id ${number}`, 10) < 10);
});

test("what a program says of a trouble becomes sentences, and sentences stay what they are", () => {
  assert.equal(sentences("the relay is gone", "it said so: 7", undefined), "The relay is gone. It said so: 7.");
  assert.equal(sentences("You have no name yet.", "Who are you?", ""), "You have no name yet. Who are you?");
});
