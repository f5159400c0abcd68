/**
 * A loudspeaker that nobody hears, for Firefox: without one it has no clock for sound, and the one that it has for its own tests
 * runs up to a sixth too slow on a busy machine. PulseAudio's keeps time.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

const PROGRAM = "/usr/bin/pulseaudio";
const READY_MS = 10_000;

export function has_loudspeaker(): boolean {
  return existsSync(PROGRAM);
}

export class Loudspeaker {
  /** What a browser is to have in its environment to find it. */
  readonly environment: Readonly<Record<string, string>>;
  readonly #process: ChildProcess;

  private constructor(socket: string, process: ChildProcess) {
    this.environment = { PULSE_SERVER: `unix:${socket}` };
    this.#process = process;
  }

  static async open(directory: string): Promise<Loudspeaker> {
    const [home, socket] = [join(directory, "sound"), join(directory, "sound", "native")];
    mkdirSync(home);
    const modules = [`module-native-protocol-unix socket=${socket} auth-anonymous=1`, "module-null-sink rate=48000"];
    const words = ["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disable-shm=yes", "--realtime=no"];
    const child = spawn(PROGRAM, [...words, ...modules.flatMap((module) => ["-L", module])], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, HOME: home, XDG_RUNTIME_DIR: home },
    });
    let log = "";
    child.stderr.on("data", (data: Buffer) => (log += data.toString()));
    const give_up_at = Date.now() + READY_MS;
    while (!existsSync(socket)) {
      if (Date.now() > give_up_at || child.exitCode !== null) {
        child.kill();
        throw new Error(`no loudspeaker: ${log}`);
      }
      await new Promise((done) => setTimeout(done, 20));
    }
    return new Loudspeaker(socket, child);
  }

  close(): void {
    this.#process.kill();
  }
}
