/** Browsers without a screen, with a microphone that hums and a camera that shows something. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { join } from "node:path";
import { tmpdir } from "node:os";

import puppeteer, { type Browser, type Page } from "puppeteer-core";

import { Loudspeaker, has_loudspeaker } from "./loudspeaker.ts";

export type Kind = "chromium" | "firefox";

const PROGRAMS: Record<Kind, string> = { chromium: "/usr/bin/chromium", firefox: "/usr/bin/firefox-esr" };
const RATE = 48_000;
/** Of a microphone's file: Chromium plays it again and again. */
const SECONDS = 8;
export const AMPLITUDE = 0.25;

/** The browsers that are here. */
export function kinds(): Kind[] {
  const here = (Object.keys(PROGRAMS) as Kind[]).filter((kind) => existsSync(PROGRAMS[kind]));
  if (here.includes("firefox") && !has_loudspeaker()) {
    console.log("NOT TRIED IN FIREFOX: it plays into PulseAudio, which is not here (Debian: pulseaudio).");
    return here.filter((kind) => kind !== "firefox");
  }
  return here;
}

export interface Person {
  readonly kind: Kind;
  readonly hz: number;
  readonly page: Page;
  readonly said: string[];
  /** Of their own; gone when they close. */
  readonly directory: string;
  close(): Promise<void>;
}

/** Serves one page on loopback, where it is as trusted as by https. */
export async function serve(html: string): Promise<{ url: string; server: Server }> {
  const server = createServer((asked, answer) => {
    if (asked.url?.split("?")[0] !== "/") {
      answer.statusCode = 404;
      answer.end();
      return;
    }
    answer.setHeader("content-type", "text/html; charset=utf-8");
    answer.end(html);
  });
  await new Promise<void>((good) => server.listen(0, "127.0.0.1", good));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { url: `http://127.0.0.1:${port}/`, server };
}

/** Somebody who hums this note; in Chromium it may begin anew in each of the microphone's beats. */
export async function person(kind: Kind, hz: number, url: string, beat_ms?: number): Promise<Person> {
  const directory = mkdtempSync(join(tmpdir(), `supernode-${kind}-`));
  const speaker = kind === "firefox" ? await Loudspeaker.open(directory) : undefined;
  const browser = speaker === undefined ? await chromium(directory, wav(hz, beat_ms)) : await firefox(directory, hz, speaker);
  const page = await browser.newPage();
  const said: string[] = [];
  page.on("console", (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => said.push(`error: ${String(error)}`));
  await page.goto(url);
  const close = async () => {
    await browser.close();
    speaker?.close();
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
  };
  return { kind, hz, page, said, directory, close };
}

async function chromium(directory: string, sound: Buffer): Promise<Browser> {
  const microphone = join(directory, "microphone.wav");
  writeFileSync(microphone, sound);
  return await puppeteer.launch({
    executablePath: PROGRAMS.chromium,
    headless: true,
    userDataDir: join(directory, "profile"),
    protocolTimeout: 240_000,
    // What a tab in the background may, it may here as well.
    ignoreDefaultArgs: ["--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding"],
    args: [
      "--no-sandbox",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream=fps=30",
      `--use-file-for-fake-audio-capture=${microphone}`,
      "--auto-select-desktop-capture-source=Entire screen",
      "--autoplay-policy=no-user-gesture-required",
      "--disable-features=AudioServiceSandbox",
    ],
  });
}

async function firefox(directory: string, hz: number, speaker: Loudspeaker): Promise<Browser> {
  const profile = join(directory, "profile");
  mkdirSync(profile);
  return await puppeteer.launch({
    browser: "firefox",
    executablePath: PROGRAMS.firefox,
    headless: true,
    userDataDir: profile,
    protocolTimeout: 240_000,
    env: { ...process.env, ...speaker.environment },
    extraPrefsFirefox: {
      "media.navigator.streams.fake": true,
      "media.navigator.permission.disabled": true,
      "media.navigator.audio.fake_frequency": hz,
      "media.autoplay.default": 0,
      "media.getusermedia.screensharing.enabled": true,
    },
  });
}

/** A tone that goes on where it begins, or is heard for a tenth of each beat. */
function wav(hz: number, beat_ms: number | undefined): Buffer {
  const samples = RATE * SECONDS;
  const bytes = Buffer.alloc(44 + 2 * samples);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(36 + 2 * samples, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(1, 22);
  bytes.writeUInt32LE(RATE, 24);
  bytes.writeUInt32LE(2 * RATE, 28);
  bytes.writeUInt16LE(2, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write("data", 36);
  bytes.writeUInt32LE(2 * samples, 40);
  for (let at = 0; at < samples; at++) {
    if (beat_ms !== undefined && (at / 48) % beat_ms > beat_ms / 10) {
      continue;
    }
    bytes.writeInt16LE(Math.round(32_767 * AMPLITUDE * Math.sin((2 * Math.PI * hz * at) / RATE)), 44 + 2 * at);
  }
  return bytes;
}
