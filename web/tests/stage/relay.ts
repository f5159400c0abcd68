/** A real relay for a test, with its door for pages open, and people with programs. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How long a relay may take to be ready, on a busy machine. */
const PATIENCE_MS = 30_000;

/** Below this are the ports of services that a machine may run. */
const FIRST_PORT = 10_000;
/** From here on the system gives ports to whoever asks for any: a browser may have one of them while a relay restarts. */
const GIVEN_AWAY_FROM = Number(readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8").split(/\s+/)[0]);

/** Where `supernode` and `supernode-call` are. */
export const PROGRAMS = process.env["SUPERNODE_PROGRAMS"] ?? join(process.cwd(), "..", "target", "debug");

export class Relay {
  readonly directory: string;
  readonly #admin: string;
  readonly #pages: number;
  readonly #listen: string;
  #process: ChildProcess | undefined;
  readonly #replaced: (ChildProcess | undefined)[] = [];
  #invite = "";
  readonly #more: string;
  readonly #environment: NodeJS.ProcessEnv;

  private constructor(directory: string, pages: number, listen: string, admin: string, more: string, environment: NodeJS.ProcessEnv) {
    this.#more = more;
    this.#environment = environment;
    this.directory = directory;
    this.#pages = pages;
    this.#listen = listen;
    this.#admin = admin;
  }

  /** `more` stands behind the configuration's section of pages. */
  static async open(more = "", environment: NodeJS.ProcessEnv = {}): Promise<Relay> {
    const directory = mkdtempSync(join(tmpdir(), "supernode-page-"));
    const [pages, port, admin] = [await free_port(), await free_port(), await free_port()];
    const relay = new Relay(directory, pages, `127.0.0.1:${port}`, `127.0.0.1:${admin}`, more, environment);
    await relay.start();
    return relay;
  }

  async start(): Promise<void> {
    await this.#run([]);
  }

  /** Another process takes this one's place, as `supernode upgrade` has it done; it ends once it has nothing to do any more. */
  async upgrade(): Promise<void> {
    this.#process?.removeAllListeners("exit");
    this.#replaced.push(this.#process);
    await this.#run(["--takeover"]);
  }

  async #run(more: readonly string[]): Promise<void> {
    const config = join(this.directory, "supernode.toml");
    writeFileSync(config, `[web]\npages = "on"\nlisten = "127.0.0.1:${this.#pages}"\n${this.#more}`);
    const state = join(this.directory, "state");
    const words = ["serve", "--config", config, "--listen", this.#listen, "--admin", this.#admin, "--open", "--state-dir", state, ...more];
    const child = spawn(join(PROGRAMS, "supernode"), words, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...this.#environment } });
    this.#process = child;
    let [out, log] = ["", ""];
    child.stderr.on("data", (data: Buffer) => (log += data.toString()));
    await new Promise<void>((good, bad) => {
      const late = setTimeout(() => {
        bad(new Error(`the relay was not ready: ${log}`));
      }, PATIENCE_MS);
      child.stdout.on("data", (data: Buffer) => {
        out += data.toString();
        if (out.includes("\n")) {
          clearTimeout(late);
          good();
        }
      });
      child.on("exit", (code) => {
        bad(new Error(`the relay ended with ${code}: ${log}`));
      });
    });
    this.#invite = (JSON.parse(out.split("\n")[0] ?? "") as { invite: string }).invite;
  }

  /** Where it tells pages of its certificates. */
  get told(): string {
    return `http://127.0.0.1:${this.#pages}/certificates`;
  }

  /** A link to this relay; it says where pages are told of certificates. */
  get invite(): string {
    return this.#invite;
  }

  /** A link to a room of its own. */
  room(): string {
    const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
    const text = Array.from({ length: 51 }, () => alphabet[Math.floor(Math.random() * 32)]).join("");
    // The last character stands for one bit only.
    return with_part(this.invite, `room=${text}a`);
  }

  /** Ends it at once, as a power cut does. */
  kill(): void {
    this.#process?.removeAllListeners("exit");
    for (const process of [this.#process, ...this.#replaced]) {
      process?.kill("SIGKILL");
    }
  }

  close(): void {
    this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Somebody in the room with a program, who plays files and records. */
export class Native {
  readonly directory: string;
  readonly #child: ChildProcess;
  log = "";
  readonly ended: Promise<void>;

  constructor(relay: Relay, name: string, link: string, words: readonly string[]) {
    this.directory = join(relay.directory, name);
    const identity = join(relay.directory, `${name}.identity`);
    const program = join(PROGRAMS, "supernode-call");
    execFileSync(program, ["identity", "--out", identity, "--name", name]);
    const link_file = join(relay.directory, `${name}.link`);
    writeFileSync(link_file, link);
    const all = ["room", "join", "--identity", identity, "--link-file", link_file, "--record-dir", this.directory, ...words];
    this.#child = spawn(program, all, { stdio: ["ignore", "pipe", "pipe"] });
    const note = (data: Buffer) => {
      this.log += data.toString();
    };
    this.#child.stdout?.on("data", note);
    this.#child.stderr?.on("data", note);
    this.ended = new Promise((good) => {
      this.#child.on("exit", () => {
        good();
      });
    });
  }

  interrupt(): void {
    this.#child.kill("SIGINT");
  }
}

function with_part(link: string, part: string): string {
  return `${link}${link.includes("?") ? "&" : "?"}${part}`;
}

export async function free_port(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * (GIVEN_AWAY_FROM - FIRST_PORT));
    if (await is_free(port)) {
      return port;
    }
  }
}

async function is_free(port: number): Promise<boolean> {
  return await new Promise((good) => {
    const server = createServer();
    server.on("error", () => {
      good(false);
    });
    server.listen(port, "127.0.0.1", () => {
      server.close(() => {
        good(true);
      });
    });
  });
}

export function read(path: string): Buffer {
  return readFileSync(path);
}
