/** The engine behind the screens: devices, canvases and state on the page's thread; all else is in the worker. */
import packed from "packed:../../pkg/supernode_web_bg.wasm";

import type { Device, Engine, Figures, Identity, State, Trouble, Waking } from "../contract.ts";
import { Line } from "./ask.ts";
import type { Kept, OwnState, Pictured, Told } from "./messages.ts";
import { Camera } from "./picture/camera.ts";
import { Canvases } from "./picture/canvases.ts";
import { Push } from "./push.ts";
import { Sound } from "./sound/sound.ts";
import { Model } from "./state.ts";
import { Failure, NO_CAPABILITY, WORKER_GONE, of_anything, of_device } from "./trouble.ts";
import type { Codec } from "./worker/codecs.ts";

/** Height of a picture whose canvas has no size yet. */
const HEIGHT = 360;
/** In the tab's own storage: which call to come back to after a reload, and with what on. */
const RESUME = "supernode-call";

interface Resume {
  readonly link: string;
  readonly microphone: boolean;
  readonly camera: boolean;
}

export class PageEngine implements Engine {
  readonly #line: Line;
  readonly #model = new Model();
  readonly #sound: Sound;
  readonly #push: Push;
  readonly #canvases = new Canvases();
  readonly #levels = new Set<(levels: ReadonlyMap<Device, number>) => void>();
  readonly #pictures: Record<Pictured, Camera | undefined> = { camera: undefined, screen: undefined };
  /** How many frames a second are wanted of ours, and since when none was sent. */
  readonly #fps: Record<Pictured, number> = { camera: 0, screen: 0 };
  readonly #loaded: Promise<Kept>;
  #link = "";
  /** What was on when the last call ended. */
  #was_on = { microphone: false, camera: false };
  #latencies_told = "";
  /** What is being done about each device. */
  readonly #setting = new Map<"microphone" | Pictured, Promise<void>>();
  /** How often all of them were turned off. */
  #drops = 0;
  /** Of each canvas whose size is followed, whose picture it shows. */
  readonly #shows = new WeakMap<Element, { readonly who: Device; readonly what: Pictured }>();
  readonly #sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      this.#want_picture(target as HTMLCanvasElement);
    }
  });

  /** `forced` says of this browser that it can show and make this, for tests. */
  constructor(forced?: Codec) {
    this.#line = new Line(
      (told) => {
        this.#handle(told);
      },
      () => {
        this.#handle_over(WORKER_GONE, true);
      },
    );
    this.#push = new Push(this.#line);
    this.#sound = new Sound((capture, playout) => {
      void this.#line.ask("set_capture", [capture], [capture]);
      void this.#line.ask("set_playout", [playout], [playout]);
    });
    this.#loaded = can_call() ? this.#load(forced) : Promise.reject(new Failure(NO_CAPABILITY));
    this.#loaded.catch((error: unknown) => {
      this.#model.set_phase({ kind: "no-link", why: of_anything(error) });
    });
    if (can_call()) {
      navigator.mediaDevices.addEventListener("devicechange", () => {
        void this.#list_devices();
      });
    }
  }

  async #load(forced: Codec | undefined): Promise<Kept> {
    const kept = await this.#line.ask("load", [packed, forced]);
    this.#model.set_kept(kept);
    keep_to_itself();
    return kept;
  }

  /** The node that all that is heard comes from, for tests. */
  get output(): AudioNode | undefined {
    return this.#sound.output;
  }

  /** What the delay of sound is made of here, in milliseconds, for tests. */
  async sound_parts(): Promise<Record<string, number>> {
    return { ...(await this.#line.ask("sound_parts", [])), output: Math.round(this.#sound.latency_ms) };
  }

  /** Which of others' pictures are looked at, by track and codec, for tests. */
  async looked_at(): Promise<string[]> {
    return await this.#line.ask("looked_at", []);
  }

  // ---- what is shown

  get state(): State {
    return this.#model.state;
  }

  subscribe(listener: (state: State) => void): () => void {
    return this.#model.subscribe(listener);
  }

  subscribe_levels(listener: (levels: ReadonlyMap<Device, number>) => void): () => void {
    this.#levels.add(listener);
    return () => this.#levels.delete(listener);
  }

  show(who: Device, what: Pictured, canvas: HTMLCanvasElement | undefined): void {
    const key = `${who} ${what}`;
    const before = this.#canvases.get(key);
    if (before !== undefined && before !== canvas) {
      this.#sizes.unobserve(before);
    }
    this.#canvases.set(key, canvas);
    if (who === this.#model.me.device) {
      return;
    }
    if (canvas === undefined) {
      void this.#line.ask("want_picture", [who, what, 0]);
    } else {
      this.#shows.set(canvas, { who, what });
      this.#want_picture(canvas);
      this.#sizes.observe(canvas);
    }
  }

  /** As large as it is shown, and no larger. */
  #want_picture(canvas: HTMLCanvasElement): void {
    const shows = this.#shows.get(canvas);
    if (shows !== undefined && this.#canvases.get(`${shows.who} ${shows.what}`) === canvas) {
      const height = Math.ceil(canvas.clientHeight * devicePixelRatio) || HEIGHT;
      void this.#line.ask("want_picture", [shows.who, shows.what, height]);
    }
  }

  // ---- in and out

  async open_link(text: string): Promise<void> {
    await this.#loaded;
    // Of a page's link, what is behind the #.
    const fragment = text.includes("#") ? text.slice(text.indexOf("#") + 1) : text;
    const link = fragment.includes("%") ? unescaped(fragment) : fragment;
    try {
      const shown = await this.#line.ask("look_at_link", [link]);
      this.#link = link;
      this.#model.set_phase({ kind: "door", link: shown });
    } catch (error) {
      this.#model.set_phase({ kind: "no-link", why: of_anything(error) });
      throw error;
    }
    const resume = resumed();
    if (resume?.link === link) {
      await this.#come_back(resume);
    }
  }

  async #come_back(resume: Resume): Promise<void> {
    await Promise.allSettled([
      resume.microphone ? this.set_microphone(true) : undefined,
      resume.camera ? this.set_camera(true) : undefined,
    ]);
    // Said by the phase.
    await this.enter().catch(() => undefined);
  }

  set_name(name: string): void {
    this.#model.set_name(name);
    void this.#line.ask("set_name", [this.#model.me.name]);
    this.#tell_state();
  }

  async prepare(): Promise<void> {
    await this.#loaded;
    const { microphone, camera } = this.#model.mine;
    // One after the other: some browsers ask for one at a time.
    const heard = await settled(microphone === "off" ? this.set_microphone(true) : undefined);
    const seen = await settled(camera === "off" ? this.set_camera(true) : undefined);
    await this.#list_devices();
    // Whoever has only one of both can be in a call.
    if (heard !== undefined && seen !== undefined) {
      throw new Failure(heard);
    }
  }

  async enter(): Promise<void> {
    await this.#loaded;
    void this.#sound.prepare().catch(() => undefined);
    const on = this.#wanted_on;
    this.#model.set_phase({ kind: "entering", step: "relay" });
    try {
      if (!(await this.#turn_on(on))) {
        return;
      }
      const name = this.#model.me.name;
      const { room_name } = await this.#line.ask("enter", [this.#link, this.#own, name === "" ? "" : `${name}'s room`]);
      await this.#handle_in(room_name);
    } catch (error) {
      forget_resume();
      // Whoever has left meanwhile knows why.
      if (this.#model.state.phase.kind === "entering") {
        this.#handle_over(of_anything(error), true);
      }
      throw error;
    }
  }

  async #handle_in(room_name: string | undefined): Promise<void> {
    this.#model.set_in(room_name ?? "");
    for (const what of ["camera", "screen"] as const) {
      if (this.#pictures[what] !== undefined) {
        await this.#line.ask("publish_picture", [what, true]);
      }
    }
    const link = (await this.#line.ask("room_link", [])) ?? "";
    if (link !== "") {
      this.#link = link;
    }
    this.#keep_resume(link);
  }

  async leave(): Promise<void> {
    forget_resume();
    this.#handle_over(undefined, true);
    await this.#line.ask("leave", []);
  }

  /** What is on, or was in the call before: whoever comes back or answers wants it again. */
  get #wanted_on(): { readonly microphone: boolean; readonly camera: boolean } {
    return this.#model.state.phase.kind === "over" ? this.#was_on : this.#own;
  }

  /** Says whether we are still on the way in, for the browser may ask, and that takes as long as it takes. */
  async #turn_on({ microphone, camera }: { readonly microphone: boolean; readonly camera: boolean }): Promise<boolean> {
    // Whoever has no microphone any more comes in all the same, and sees that it is off.
    await settled(microphone ? this.set_microphone(true) : undefined);
    await settled(camera ? this.set_camera(true) : undefined);
    const { kind } = this.#model.state.phase;
    if (kind !== "entering") {
      this.#drop_devices();
    }
    return kind === "entering";
  }

  /** Nothing of ours is on after a call, however it ended. */
  #handle_over(why: Trouble | undefined, may_come_back: boolean): void {
    if (this.#model.state.phase.kind !== "over") {
      this.#was_on = { microphone: this.#own.microphone, camera: this.#own.camera };
    }
    this.#drop_devices();
    this.#model.set_over(why, may_come_back);
  }

  async answer(ring: number): Promise<void> {
    void this.#sound.prepare().catch(() => undefined);
    const on = this.#wanted_on;
    this.#model.set_phase({ kind: "entering", step: "keys" });
    try {
      if (!(await this.#turn_on(on))) {
        return;
      }
      const { room_name } = await this.#line.ask("answer", [ring, this.#own]);
      await this.#handle_in(room_name);
    } catch (error) {
      this.#handle_over(of_anything(error), true);
      throw error;
    }
  }

  async decline(ring: number): Promise<void> {
    await this.#line.ask("decline", [ring]);
  }

  // ---- devices

  async choose(kind: "microphone" | "camera" | "speaker", id: string): Promise<void> {
    this.#model.choose(kind, id);
    if (kind === "speaker") {
      await this.#sound.choose_speaker(id).catch((error: unknown) => {
        throw new Failure(of_device("speaker", error));
      });
    } else if (kind === "microphone" && this.#sound.has_microphone) {
      await this.#take_microphone();
    } else if (kind === "camera" && this.#pictures.camera !== undefined) {
      this.#pictures.camera.stop();
      await this.#take_picture("camera");
    }
  }

  async set_microphone(on: boolean): Promise<void> {
    await this.#one_by_one("microphone", () => this.#set_microphone(on));
  }

  /** What is asked of a device while it starts is done once it has: it is not started twice, and what was asked last holds. */
  async #one_by_one(what: "microphone" | Pictured, set: () => Promise<void>): Promise<void> {
    const before = this.#setting.get(what) ?? Promise.resolve();
    const setting = before.catch(() => undefined).then(set);
    this.#setting.set(what, setting);
    await setting;
  }

  async #set_microphone(on: boolean): Promise<void> {
    if (on && !this.#sound.has_microphone) {
      this.#model.set_mine("microphone", "starting");
      const drops = this.#drops;
      try {
        await this.#take_microphone();
      } catch (error) {
        this.#model.set_mine("microphone", "off");
        throw error;
      }
      if (drops !== this.#drops) {
        // The call has ended meanwhile.
        this.#sound.drop_microphone();
        this.#model.set_mine("microphone", "off");
        return;
      }
      void this.#list_devices();
    }
    this.#model.set_mine("microphone", on ? "on" : "off");
    this.#tell_state();
  }

  async #take_microphone(): Promise<void> {
    try {
      await this.#sound.take_microphone(this.#model.devices.microphone, () => {
        this.#sound.drop_microphone();
        void this.set_microphone(false);
      });
    } catch (error) {
      throw new Failure(of_device("microphone", error));
    }
  }

  async set_camera(on: boolean): Promise<void> {
    await this.#set_picture("camera", on);
  }

  async set_screen(on: boolean): Promise<void> {
    await this.#set_picture("screen", on);
  }

  async #set_picture(what: Pictured, on: boolean): Promise<void> {
    await this.#one_by_one(what, () => this.#set_picture_now(what, on));
  }

  async #set_picture_now(what: Pictured, on: boolean): Promise<void> {
    if (!on) {
      this.#stop_picture(what);
      this.#tell_state();
      await this.#line.ask("publish_picture", [what, false]);
      return;
    }
    if (this.#pictures[what] !== undefined) {
      return;
    }
    this.#model.set_mine(what, "starting");
    const drops = this.#drops;
    try {
      await this.#take_picture(what);
    } catch (error) {
      this.#model.set_mine(what, "off");
      throw new Failure(of_device(what, error));
    }
    if (drops !== this.#drops) {
      // The call has ended meanwhile.
      this.#stop_picture(what);
      return;
    }
    this.#model.set_mine(what, "on");
    this.#tell_state();
    await this.#line.ask("publish_picture", [what, true]);
    void this.#list_devices();
  }

  async #take_picture(what: Pictured): Promise<void> {
    const frame = (video: HTMLVideoElement, unix_us: number) => {
      this.#canvases.show_now(`${this.#model.me.device} ${what}`, video);
      if (this.#fps[what] > 0) {
        this.#line.send(what, new VideoFrame(video, { timestamp: unix_us }));
      }
    };
    const ended = () => {
      void this.#set_picture(what, false);
    };
    const camera = this.#model.devices.camera;
    this.#pictures[what] = what === "camera" ? await Camera.camera(camera, frame, ended) : await Camera.screen(frame, ended);
  }

  #drop_devices(): void {
    this.#drops += 1;
    this.#sound.drop_microphone();
    this.#model.set_mine("microphone", "off");
    for (const what of ["camera", "screen"] as const) {
      this.#stop_picture(what);
    }
  }

  #stop_picture(what: Pictured): void {
    this.#pictures[what]?.stop();
    this.#pictures[what] = undefined;
    this.#model.set_mine(what, "off");
  }

  async #list_devices(): Promise<void> {
    this.#model.set_devices(await navigator.mediaDevices.enumerateDevices());
  }

  // ---- what is said and done

  async say(text: string): Promise<void> {
    await this.#line.ask("say", [text]);
  }

  async react(emoji: string): Promise<void> {
    await this.#line.ask("react", [emoji]);
  }

  async offer_file(file: File): Promise<void> {
    await this.#line.ask("offer_file", [file]);
  }

  async save_file(said: number): Promise<void> {
    await this.#model.file_settled(said);
    const blob = await this.#line.ask("file", [said]);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = this.#model.file_name(said);
    link.click();
    setTimeout(() => {
      URL.revokeObjectURL(link.href);
    }, 60_000);
  }

  async admit(who: Identity): Promise<void> {
    await this.#each_knock(who, "admit");
  }

  async turn_away(who: Identity): Promise<void> {
    await this.#each_knock(who, "decline");
  }

  async #each_knock(who: Identity, what: "admit" | "decline"): Promise<void> {
    for (const knock of this.#model.knocks_of(who)) {
      await this.#line.ask(what, [knock]);
    }
  }

  set_lobby(on: boolean): void {
    this.#model.set_own_lobby(on);
    this.#tell_state();
  }

  async kick(who: Identity): Promise<void> {
    await this.#line.ask("kick", [who]);
  }

  async person_number(who: Identity): Promise<string> {
    return await this.#line.ask("person_number", [who]);
  }

  async set_verified(who: Identity, verified: boolean): Promise<void> {
    await this.#line.ask("set_verified", [who, this.#model.set_verified(who, verified), verified]);
  }

  async room_link(): Promise<string> {
    const link = await this.#line.ask("room_link", []);
    if (link === undefined) {
      throw new Failure({ what: "this call has no link", why: "it is a call of two", todo: "open a room for more people" });
    }
    return of_this_page(link);
  }

  async ticket_link(): Promise<string> {
    return of_this_page(await this.#line.ask("ticket_link", [this.#link]));
  }

  async waking(): Promise<Waking> {
    return await this.#push.look(this.#link);
  }

  async set_waking(on: boolean): Promise<void> {
    await (on ? this.#push.turn_on(this.#link) : this.#push.turn_off(this.#link));
  }

  async come_when_rung(): Promise<void> {
    await this.#loaded;
    const link = await this.#push.link();
    if (link !== undefined && this.#model.state.phase.kind !== "in") {
      await this.open_link(link);
      await this.#line.ask("ticket_link", [link]);
    }
  }

  async act(notice: string): Promise<void> {
    if (notice === "split") {
      await this.#line.ask("go_on", []);
    }
    this.#model.drop_notice(notice);
  }

  async figures(): Promise<Figures> {
    const figures = await this.#line.ask("figures", []);
    const delays = figures.sound_delays_ms.map((delay) => delay + this.#sound.latency_ms).sort((a, b) => a - b);
    const median = delays[Math.floor(delays.length / 2)];
    return {
      heard: figures.heard,
      concealed: Math.round(figures.concealed),
      seen: figures.seen,
      silence_ms_max: Math.round(figures.silence_ms_max),
      memory_bytes: figures.memory_bytes,
      ...(median === undefined ? {} : { mouth_to_ear_ms_p50: median }),
      ...(figures.rtt_ms === undefined ? {} : { rtt_ms: figures.rtt_ms }),
    };
  }

  // ---- what happens

  #handle(told: Told): void {
    switch (told.is) {
      case "picture":
        this.#canvases.show(`${told.device} ${told.what}`, told.frame, told.given_at_ms);
        break;
      case "picture_wanted":
        this.#fps[told.what] = told.fps;
        if (told.what === "camera") {
          // A camera that knows no other size keeps its own.
          this.#pictures.camera?.set_height(told.height).catch(() => undefined);
        }
        break;
      case "tick":
        if (document.hidden) {
          this.#pictures.camera?.take();
          this.#pictures.screen?.take();
        }
        break;
      case "levels": {
        this.#tell_latencies();
        const levels = new Map(told.levels);
        this.#model.set_levels(levels);
        this.#levels.forEach((listener) => {
          listener(levels);
        });
        break;
      }
      case "over":
        forget_resume();
        this.#handle_over(told.trouble, told.end !== "Removed");
        break;
      default:
        this.#model.handle(told);
    }
  }

  #tell_latencies(): void {
    const latencies = [Math.round(this.#sound.latency_ms), Math.round(this.#canvases.drawn_after_ms)] as const;
    if (latencies.join(" ") !== this.#latencies_told) {
      this.#latencies_told = latencies.join(" ");
      void this.#line.ask("set_latencies", [...latencies]);
    }
  }

  get #own(): OwnState {
    return this.#model.own;
  }

  #tell_state(): void {
    void this.#line.ask("tell_state", [this.#own]);
    if (this.#model.state.phase.kind === "in") {
      this.#keep_resume(this.#link);
    }
  }

  #keep_resume(link: string): void {
    const { microphone, camera } = this.#own;
    try {
      sessionStorage.setItem(RESUME, JSON.stringify({ link, microphone, camera } satisfies Resume));
    } catch {
      // Where nothing can be kept, a reload ends the call.
    }
  }
}

/** What went wrong, if something did. */
async function settled(doing: Promise<void> | undefined): Promise<Trouble | undefined> {
  try {
    await doing;
    return undefined;
  } catch (error) {
    return of_anything(error);
  }
}

/** Where others' words are shown there is nobody to talk to from now on but whoever served the page: what goes to a relay goes from
 *  the worker, which has begun under the page's first policy and keeps it. */
function keep_to_itself(): void {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = "connect-src 'self'";
  document.head.append(policy);
}

/** Whether there is all that a call takes. */
function can_call(): boolean {
  const needed = ["WebTransport", "AudioEncoder", "AudioDecoder", "VideoEncoder", "VideoDecoder", "AudioWorklet", "indexedDB"];
  return isSecureContext && needed.every((name) => name in globalThis) && "mediaDevices" in navigator;
}

/** The call that this tab was in before it was loaded again. */
export function resumed(): Resume | undefined {
  try {
    const kept = sessionStorage.getItem(RESUME);
    return kept === null ? undefined : (JSON.parse(kept) as Resume);
  } catch {
    return undefined;
  }
}

function forget_resume(): void {
  try {
    sessionStorage.removeItem(RESUME);
  } catch {
    // Nothing was kept.
  }
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A link that opens this page with it. */
function of_this_page(link: string): string {
  return `${location.href.split("#")[0] ?? ""}#${link}`;
}
