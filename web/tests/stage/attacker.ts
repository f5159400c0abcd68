/** A page of a member who means harm: keys and connection as anybody has them, and behind them bytes as they like. */
import packed from "packed:../../pkg/supernode_web_bg.wasm";
import { Keys, Session, initSync, type Outgoing, type Room } from "wasm:supernode_web";

import { fresh_id, unpack } from "../../front/engine/worker/bytes.ts";

/** What would run if anything did. */
const SCRIPTS = [
  "<script>window.ran=1</script>",
  "<img src=x onerror='window.ran=1'>",
  "\"><iframe srcdoc='<script>parent.ran=1</script>'>",
  "javascript:window.ran=1",
  "\u202e<svg onload=window.ran=1>\u0000\u2066",
];
const TTL_MS = 2000;
/** Those who listen have subscribed by then. */
const LISTENERS_MS = 1500;

export interface AttackPage {
  enter(link: string): Promise<void>;
  /** Each way in turn; says of each how much of it was taken. */
  everything(): Promise<string[]>;
}

let room: Room | undefined;
const told: string[] = [];

async function enter(link: string): Promise<void> {
  initSync({ module: await unpack(packed) });
  const session = await Session.connect(Keys.generate(), link, () => undefined);
  room = await session.enter("", false);
}

async function publish(kind: "audio" | "video" | "data", name: string, codec: string, parameters = new Uint8Array()): Promise<Outgoing | undefined> {
  try {
    return await room?.publish(fresh_id(), kind, name, codec, parameters, TTL_MS, () => undefined);
  } catch {
    return undefined;
  }
}

/** As fast as it is taken. */
async function send(what: string, track: Outgoing | undefined, frames: Iterable<{ bytes: Uint8Array<ArrayBuffer>; at_us?: number; key?: boolean; layer?: number }>): Promise<void> {
  let [taken, refused] = [0, 0];
  for (const { bytes, at_us = 0, key = true, layer = 0 } of track === undefined ? [] : frames) {
    for (let tries = 0; track?.send(bytes, at_us, key, layer, 0, false) === false && tries < 20; tries++) {
      await pause(5);
      refused += tries === 19 ? 1 : 0;
    }
    taken += 1;
  }
  told.push(`${what}: ${track === undefined ? "no track" : `${taken - refused} sent`}`);
}

function text(said: unknown): { bytes: Uint8Array<ArrayBuffer> } {
  return { bytes: new TextEncoder().encode(typeof said === "string" ? said : JSON.stringify(said)) };
}

function noise(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, () => Math.random() * 256);
}

async function everything(): Promise<string[]> {
  const [talk, chat] = [await publish("data", "talk", "supernode-talk/1"), await publish("data", "chat", "text")];
  await pause(LISTENERS_MS);
  const state = (name: string) => ({ is: "state", name, microphone: true, camera: true, screen: true, lobby: true });
  const file = (name: string, bytes: number) => ({ is: "file", id: Array.from(noise(8), (byte) => byte.toString(16).padStart(2, "0")).join(""), name, bytes, sha256: "0".repeat(64) });
  await send("names, reactions, files of scripts", talk, SCRIPTS.flatMap((script) => [state(script), { is: "reaction", emoji: script }, file(script, 5)]).map(text));
  await send("lines of scripts", chat, SCRIPTS.map(text));
  await send("what is no message", talk, [{ bytes: new Uint8Array() }, ...["null", "[".repeat(16_000), '{"is":', '{"is":"state","name":5}', `{"is":"state","name":"${"x".repeat(16_000)}"}`].map(text), ...Array.from({ length: 50 }, () => ({ bytes: noise(200) })), { bytes: noise(200_000) }]);
  await send("a flood of names", talk, Array.from({ length: 1000 }, (_, at) => text(state(`${at}${"W".repeat(200)}`))));
  await send("a flood of reactions", talk, Array.from({ length: 1000 }, () => text({ is: "reaction", emoji: "🎉".repeat(100) })));
  await send("a flood of files", talk, Array.from({ length: 300 }, (_, at) => text(file(`../../${at}`, 104_857_600))));
  await send("long lines", chat, Array.from({ length: 200 }, () => text("<b>\n".repeat(4000))));
  await send("lines of noise", chat, Array.from({ length: 100 }, () => ({ bytes: noise(3000) })));

  const offered = file("more than was said", 1000);
  const more = await room?.publish(Uint8Array.from(offered.id.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16)), "data", "file", "supernode-file/1", new Uint8Array(), TTL_MS, () => undefined);
  await send("an offer", talk, [text(offered)]);
  await pause(LISTENERS_MS);
  await send("more of a file than was offered", more, Array.from({ length: 50 }, () => ({ bytes: noise(60_000) })));

  for (const script of SCRIPTS) {
    await publish("data", script, script);
  }
  const [sound, odd] = [await publish("audio", SCRIPTS[0] ?? "", "opus", noise(40)), await publish("audio", "", "\u0000", noise(200))];
  const [picture, other] = [await publish("video", SCRIPTS[1] ?? "", "vp8", noise(40)), await publish("video", "camera", "av1", noise(2))];
  await pause(LISTENERS_MS);
  const times = [0, 1, 2 ** 53, 5_000_000, -1, 2 ** 63, NaN];
  await send("sound that is none, at odd times", sound, Array.from({ length: 400 }, (_, at) => ({ bytes: noise([0, 1, 20, 80, 1000][at % 5] ?? 0), at_us: times[at % times.length] ?? 0 })));
  await send("sound of no codec", odd, Array.from({ length: 50 }, () => ({ bytes: noise(80) })));
  for (const [what, track] of [["pictures that are none, backwards", picture], ["pictures of another codec", other]] as const) {
    const sizes = [0, 1, 10, 1000, 30_000, 400_000];
    await send(what, track, Array.from({ length: 120 }, (_, at) => ({ bytes: noise(sizes[at % sizes.length] ?? 0), at_us: (1000 - at) * 33_000, key: at % 7 < 3, layer: at % 3 })));
  }
  return told.splice(0);
}

async function pause(ms: number): Promise<void> {
  await new Promise((done) => setTimeout(done, ms));
}

(globalThis as unknown as { attack: AttackPage }).attack = { enter, everything };
