import assert from "node:assert/strict";
import { test } from "node:test";

import { choose_words, english, LANGUAGES, trouble_of } from "./words.ts";

/** Every text there is, functions called with something. */
function texts(value: unknown, path: string, found: Map<string, string>): Map<string, string> {
  if (typeof value === "string") found.set(path, value);
  else if (typeof value === "function") {
    for (const sample of [1, 2]) texts((value as (...by: unknown[]) => unknown)(sample, sample), `${path}(${sample})`, found);
  } else if (typeof value === "object" && value !== null) {
    for (const [key, part] of Object.entries(value)) texts(part, `${path}.${key}`, found);
  }
  return found;
}

/** Said to nobody: a state that passes by itself. */
const SILENT = /^english\.announce\.(microphone|camera|my_screen)\.starting$/;

test("every text says something, and nothing of the machinery", () => {
  const found = texts(english, "english", new Map());
  assert.ok(found.size > 150);
  for (const [path, text] of found) {
    assert.ok(text.trim() !== "" || SILENT.test(path), `${path} is empty`);
    assert.ok(!/undefined|null|NaN|\[object/.test(text), `${path}: ${text}`);
    assert.ok(!/[<>]/.test(text), `${path} has something like an element: ${text}`);
    assert.ok(!/ {2}|^ | $/.test(text), `${path} has spaces too many: "${text}"`);
  }
});

test("whatever goes wrong is told in sentences, with what to do", () => {
  const troubles = Object.entries({ no_link: english.no_link.empty, no_name: english.door.no_name, poor: english.call.my_line.poor, lost: english.call.my_line.lost, differ: english.verify.differ_advice, unexpected: english.unexpected("The relay does not answer.") });
  for (const [name, trouble] of troubles) {
    assert.ok((trouble.todo ?? "") !== "", `${name} says nothing about what to do`);
    for (const sentence of Object.values(trouble) as string[]) assert.match(sentence, /[.!?]$/, `${name}: ${sentence}`);
  }
});

test("one is one and not ones", () => {
  assert.equal(english.bar.unread(1), "1 unread message");
  assert.equal(english.bar.unread(2), "2 unread messages");
  assert.equal(english.chat.newest(1), "1 new message below");
});

test("each language has its words, and English is for the others", () => {
  assert.equal(choose_words(["xx-YY", "en-GB"]), LANGUAGES["en"]);
  assert.equal(choose_words([]), english);
});

test("whatever an engine fails with becomes words", () => {
  assert.deepEqual(trouble_of({ what: "No camera.", todo: "Plug one in.", more: 1 }, english), { what: "No camera.", todo: "Plug one in." });
  assert.deepEqual(trouble_of(new Error("boom"), english), english.unexpected("boom"));
  assert.deepEqual(trouble_of(undefined, english), english.unexpected(english.something));
  assert.deepEqual(trouble_of({ what: 5 }, english), english.unexpected(english.something));
});
