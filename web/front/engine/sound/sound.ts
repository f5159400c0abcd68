/** The page's side of sound: the microphone, the loudspeaker, and the two worklets between them and the worker. */
import capture_source from "script:./capture.worklet.ts";
import playout_source from "script:./playout.worklet.ts";

const RATE = 48_000;

/** What a context has in some browsers, and an audio element in all. */
type Sinkable = { setSinkId?: (id: string) => Promise<void> };

export class Sound {
  #context: AudioContext | undefined;
  #capture: AudioWorkletNode | undefined;
  #playout: AudioWorkletNode | undefined;
  #source: MediaStreamAudioSourceNode | undefined;
  #stream: MediaStream | undefined;
  #element: HTMLAudioElement | undefined;
  #is_ready: Promise<void> | undefined;
  readonly #connect: (capture: MessagePort, playout: MessagePort) => void;

  /** `connect` is given the worklets' ports, once. */
  constructor(connect: (capture: MessagePort, playout: MessagePort) => void) {
    this.#connect = connect;
  }

  /** Makes the graph, in a moment in which the person has done something. */
  async prepare(): Promise<void> {
    this.#is_ready ??= this.#make();
    await this.#is_ready;
    // Never waited for: where there is no loudspeaker it does not come about.
    void this.#context?.resume();
  }

  async #make(): Promise<void> {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    this.#context = context;
    for (const touched of ["pointerdown", "keydown"]) {
      // A browser plays nothing before somebody has done something in the page, as after a reload.
      addEventListener(touched, () => void context.resume());
    }
    for (const source of [capture_source, playout_source]) {
      // On file:// Chromium takes a worklet from nothing but a data: address.
      await context.audioWorklet.addModule(`data:text/javascript;charset=utf-8,${encodeURIComponent(source)}`);
    }
    this.#capture = new AudioWorkletNode(context, "capture", { numberOfInputs: 1, numberOfOutputs: 1 });
    // Silent; but what leads nowhere is not run.
    this.#capture.connect(context.destination);
    this.#playout = new AudioWorkletNode(context, "playout", { numberOfInputs: 0, outputChannelCount: [2] });
    this.#playout.connect(context.destination);
    this.#connect(this.#capture.port, this.#playout.port);
    this.#source?.connect(this.#capture);
  }

  /** What everybody says, for whoever wants to measure it. */
  get output(): AudioNode | undefined {
    return this.#playout;
  }

  get context(): AudioContext | undefined {
    return this.#context;
  }

  /** From what is mixed until it is heard, in milliseconds, as far as the browser knows. */
  get latency_ms(): number {
    const context = this.#context;
    return context === undefined ? 0 : (context.outputLatency || context.baseLatency) * 1000;
  }

  get has_microphone(): boolean {
    return this.#stream !== undefined;
  }

  /** Takes this microphone, or any, in place of the one before. Says when it is unplugged. */
  async take_microphone(id: string | undefined, ended: () => void): Promise<void> {
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(id === undefined ? {} : { deviceId: { exact: id } }),
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
        channelCount: { ideal: 1 },
        sampleRate: { ideal: RATE },
      },
    });
    this.drop_microphone();
    this.#stream = stream;
    stream.getAudioTracks()[0]?.addEventListener("ended", ended);
    await this.prepare();
    if (this.#context !== undefined && this.#capture !== undefined) {
      this.#source = new MediaStreamAudioSourceNode(this.#context, { mediaStream: stream });
      this.#source.connect(this.#capture);
    }
  }

  drop_microphone(): void {
    this.#source?.disconnect();
    this.#source = undefined;
    this.#stream?.getTracks().forEach((track) => {
      track.stop();
    });
    this.#stream = undefined;
  }

  /** Gives sound to this loudspeaker. */
  async choose_speaker(id: string): Promise<void> {
    await this.prepare();
    const context = this.#context as (AudioContext & Sinkable) | undefined;
    const playout = this.#playout;
    if (context === undefined || playout === undefined) {
      return;
    }
    if (context.setSinkId !== undefined) {
      await context.setSinkId(id);
      return;
    }
    // By an element, where a context has no choice: some milliseconds later.
    if (this.#element === undefined) {
      const out = new MediaStreamAudioDestinationNode(context);
      this.#element = new Audio();
      this.#element.srcObject = out.stream;
      await this.#element.setSinkId(id);
      playout.disconnect();
      playout.connect(out);
      await this.#element.play();
    } else {
      await this.#element.setSinkId(id);
    }
  }
}
