import assert from "node:assert/strict";
import { test } from "node:test";

import type { State } from "../../contract.ts";
import { news } from "./announcer.ts";
import { banners_of } from "./banners.ts";
import { english } from "../words.ts";
import { FIRST, people, person, text_said } from "../tests/scripted.ts";

const IN: State = { ...FIRST, phase: { kind: "in" }, people: people(3) };
const said = (before: State, after: State): string[] => news(before, after, english).map(({ text }) => text);
const shown = (state: State, closed: readonly string[] = []): string[] => banners_of(state, [], new Set(closed), english).map(({ key }) => key);

test("who comes and goes is said, many at once in one sentence", () => {
  assert.deepEqual(said(IN, { ...IN, people: people(4) }), ["Samir Haddad came in."]);
  assert.deepEqual(said({ ...IN, people: people(4) }, IN), ["Samir Haddad has left."]);
  assert.deepEqual(said(IN, { ...IN, people: people(40) }), ["37 people came in."]);
});

test("nothing is said of those who were there when we came", () => {
  assert.deepEqual(said({ ...IN, phase: { kind: "entering", step: "keys" }, people: people(1) }, IN), []);
});

test("speaking and being muted are not said: they would never end", () => {
  assert.deepEqual(said(IN, { ...IN, people: people(3, () => ({ is_speaking: true, has_microphone: false })) }), []);
});

test("a lost connection interrupts, a message does not", () => {
  assert.deepEqual(news(IN, { ...IN, line: "lost" }, english), [{ text: english.announce.line.lost, urgent: true }]);
  const line = text_said(1, person(1), "Hello");
  assert.deepEqual(news(IN, { ...IN, said: [line] }, english), [{ text: "Jonas Lindqvist: Hello", urgent: false }]);
});

test("our own lines are not read to us, and a flood is not read out", () => {
  assert.deepEqual(said(IN, { ...IN, said: [text_said(1, person(0), "Hello")] }), []);
  const flood = Array.from({ length: 5000 }, (_, at) => text_said(at, person(1), `line ${at}`));
  assert.ok(said(IN, { ...IN, said: flood }).length <= 6);
});

test("the loudest stands first: alarms, rings, warnings, knocks, the rest", () => {
  const state: State = {
    ...IN,
    line: "poor",
    people: people(3, (number) => ({ trust: number === 1 ? "changed" : "unknown" })),
    knocking: [{ identity: "k", name: "Guest", has_link: true }],
    ringing: [{ id: 4, identity: "r", name: "Noah" }],
    notices: [{ key: "update", level: "info", trouble: { what: "An update." } }],
  };
  assert.deepEqual(shown(state), [`changed ${person(1).identity}`, "ring 4", "line poor", "knock k", "notice update"]);
});

test("what was closed is not shown, and rings cannot be closed", () => {
  const state: State = { ...IN, ringing: [{ id: 4, identity: "r", name: "Noah" }], notices: [{ key: "update", level: "info", trouble: { what: "An update." } }] };
  assert.deepEqual(shown(state, ["notice update"]), ["ring 4"]);
  assert.equal(banners_of(state, [], new Set(), english)[0]?.may_close, false);
});

test("many who knock are one notice", () => {
  const knocking = Array.from({ length: 30 }, (_, at) => ({ identity: `k${at}`, name: "", has_link: false }));
  assert.deepEqual(shown({ ...IN, knocking }), ["knocks"]);
});

test("somebody rings before the call as well; nobody knocks there", () => {
  const state: State = { ...FIRST, ringing: [{ id: 1, identity: "r", name: "" }], knocking: [{ identity: "k", name: "", has_link: true }] };
  assert.deepEqual(shown(state), ["ring 1"]);
});
