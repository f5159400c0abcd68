// What the wasm offers, by hand, so that everything but the page itself is built and checked without it. Its truth is
// web/src; errors are thrown as text: a trouble in JSON.
declare module "wasm:supernode_web" {
  export function initSync(module: { module: BufferSource }): { readonly memory: WebAssembly.Memory };
  export function look_at_link(text: string): string;
  export function read_talk(message: Uint8Array): string | undefined;
  export function write_talk(says: string): Uint8Array<ArrayBuffer> | undefined;
  export function read_line(line: Uint8Array): string | undefined;

  export class Keys {
    private constructor();
    static generate(): Keys;
    static from_bytes(bytes: Uint8Array): Keys | undefined;
    to_bytes(): Uint8Array<ArrayBuffer>;
    on_another_device(): Keys;
    identity(): string;
    device(): string;
    free(): void;
  }

  export class Session {
    private constructor();
    static connect(keys: Keys, link: string, told: (json: string) => void): Promise<Session>;
    enter(name: string, large: boolean): Promise<Room>;
    answer(ring: number): Promise<Room>;
    admit(ring: number): Promise<void>;
    decline(ring: number): Promise<void>;
    set_lobby(on: boolean): void;
    appear(): Promise<void>;
    ticket_link(): string;
    push_key(): Uint8Array<ArrayBuffer> | undefined;
    set_push_endpoint(endpoint: string | undefined): Promise<void>;
    rtt_ms(): number | undefined;
    close(): Promise<void>;
    free(): void;
  }

  export class Room {
    private constructor();
    name(): string | undefined;
    roster(): string;
    outsiders(): number;
    safety_number(): string | undefined;
    keys(): string;
    person_number(identity: string): string;
    remove_person(identity: string): Promise<void>;
    go_on(): void;
    link(): string | undefined;
    publish(
      id: Uint8Array,
      kind: string,
      name: string,
      codec: string,
      parameters: Uint8Array,
      ttl_ms: number,
      told: (what: "demand" | "keyframe", json?: string) => void,
    ): Promise<Outgoing>;
    subscribe(track: string, spatial_layer_max: number, focus: boolean, frames: FrameSink): Promise<Incoming>;
    play(track: string, frames: FrameSink, missing: (packets: number) => void): Promise<Incoming>;
    figures(): string;
    tracks(): string[];
    leave(): Promise<void>;
    free(): void;
  }

  export class Outgoing {
    private constructor();
    send(
      payload: Uint8Array,
      presentation_us: number,
      keyframe: boolean,
      temporal_layer: number,
      spatial_layer: number,
      discardable: boolean,
    ): boolean;
    waiting(): number;
    is_dead(): boolean;
    finish(): Promise<void>;
    free(): void;
  }

  export class Incoming {
    private constructor();
    request_keyframe(): void;
    delay_ms(): number;
    late(): number;
    stop(): void;
    free(): void;
  }

  /** Without anything after the last frame. */
  export type FrameSink = (
    payload?: Uint8Array<ArrayBuffer>,
    captured_at_us?: number,
    presentation_us?: number,
    keyframe?: boolean,
    temporal_layer?: number,
    spatial_layer?: number,
    group?: number,
  ) => void;
}
