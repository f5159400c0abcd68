/** A way to a relay through a box in the middle, on loopback: it can give its clients other ports, and be narrow. */
import { type Socket, createSocket } from "node:dgram";

/** What waits for a narrow path, as in a home's router: more is dropped. */
const QUEUE_MS = 300;

export class Path {
  readonly #inside: Socket;
  readonly #relay_port: number;
  /** Of each client, by its port, what the relay sees of it. */
  readonly #outside = new Map<number, Socket>();
  readonly #ways = { up: new Way(), down: new Way() };

  private constructor(inside: Socket, relay_port: number) {
    this.#inside = inside;
    this.#relay_port = relay_port;
    inside.on("message", (packet, from) => {
      this.#ways.up.take(packet, () => {
        this.#outside_of(from.port).send(packet, this.#relay_port, "127.0.0.1");
      });
    });
  }

  /** To the relay of this link; and the link by which it is reached through here. */
  static async to(link: string): Promise<{ path: Path; link: string }> {
    const port = /127\.0\.0\.1:(\d+)/.exec(link)?.[1];
    if (port === undefined) {
      throw new Error(`not on loopback: ${link}`);
    }
    const inside = createSocket("udp4");
    await new Promise<void>((bound) => inside.bind(0, "127.0.0.1", bound));
    const path = new Path(inside, Number(port));
    return { path, link: link.replace(`127.0.0.1:${port}`, `127.0.0.1:${inside.address().port}`) };
  }

  /** Everybody's address is another from now on, as after another network or another lease. */
  rebind(): void {
    this.#outside.forEach((socket) => socket.close());
    this.#outside.clear();
  }

  /** So wide each way; without a number as wide as there is. */
  squeeze(bits_per_second?: number): void {
    this.#ways.up.bits_per_second = bits_per_second;
    this.#ways.down.bits_per_second = bits_per_second;
  }

  get dropped(): number {
    return this.#ways.up.dropped + this.#ways.down.dropped;
  }

  close(): void {
    this.rebind();
    this.#inside.close();
  }

  #outside_of(client: number): Socket {
    const known = this.#outside.get(client);
    if (known !== undefined) {
      return known;
    }
    const socket = createSocket("udp4");
    socket.on("message", (packet) => {
      this.#ways.down.take(packet, () => {
        this.#inside.send(packet, client, "127.0.0.1");
      });
    });
    this.#outside.set(client, socket);
    return socket;
  }
}

/** One direction: packets leave one after the other, at its pace. */
class Way {
  bits_per_second: number | undefined;
  dropped = 0;
  #free_at = 0;

  take(packet: Buffer, send: () => void): void {
    const now = performance.now();
    if (this.bits_per_second === undefined) {
      send();
      return;
    }
    const leaves_at = Math.max(now, this.#free_at);
    if (leaves_at - now > QUEUE_MS) {
      this.dropped += 1;
      return;
    }
    this.#free_at = leaves_at + (packet.length * 8000) / this.bits_per_second;
    setTimeout(send, this.#free_at - now);
  }
}
