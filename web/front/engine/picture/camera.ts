/** A camera or a screen of ours: its frames, to be seen here and to be sent. */

/** Sizes that a camera is asked for: what a small call takes, and what all others do. */
const SMALL = { width: 640, height: 360 };
const LARGE = { width: 1280, height: 720 };
const FPS = 30;
const SCREEN_FPS = 15;
/** No camera takes longer from the light to the page: what says so has another clock. */
const UNDER_WAY_MS_MAX = 250;

export class Camera {
  readonly stream: MediaStream;
  readonly #video = document.createElement("video");
  readonly #frame: (video: HTMLVideoElement, unix_us: number) => void;
  #is_stopped = false;
  #is_large = false;
  #last_us = 0;

  private constructor(stream: MediaStream, frame: (video: HTMLVideoElement, unix_us: number) => void, ended: () => void) {
    this.stream = stream;
    this.#frame = frame;
    stream.getVideoTracks()[0]?.addEventListener("ended", ended);
  }

  static async camera(
    id: string | undefined,
    frame: (video: HTMLVideoElement, unix_us: number) => void,
    ended: () => void,
  ): Promise<Camera> {
    const chosen = id === undefined ? {} : { deviceId: { exact: id } };
    const video = { ...chosen, width: { ideal: SMALL.width }, height: { ideal: SMALL.height }, frameRate: { ideal: FPS, max: FPS } };
    return await new Camera(await navigator.mediaDevices.getUserMedia({ video }), frame, ended).#start();
  }

  static async screen(frame: (video: HTMLVideoElement, unix_us: number) => void, ended: () => void): Promise<Camera> {
    const video = { frameRate: { ideal: SCREEN_FPS, max: FPS } };
    return await new Camera(await navigator.mediaDevices.getDisplayMedia({ video, audio: false }), frame, ended).#start();
  }

  async #start(): Promise<this> {
    this.#video.muted = true;
    this.#video.playsInline = true;
    this.#video.srcObject = this.stream;
    await this.#video.play();
    const next = (_now: number, frame: VideoFrameCallbackMetadata) => {
      if (!this.#is_stopped) {
        this.#take(taken_at(frame));
        this.#video.requestVideoFrameCallback(next);
      }
    };
    this.#video.requestVideoFrameCallback(next);
    return this;
  }

  /** Gives a frame out now: where nobody sees this tab, frames do not come by themselves. */
  take(): void {
    this.#take(performance.now());
  }

  /** The frame that is there now, which is of this time. */
  #take(at_ms: number): void {
    const at_us = Math.round((performance.timeOrigin + at_ms) * 1000);
    if (!this.#is_stopped && this.#video.videoWidth > 0 && at_us > this.#last_us) {
      this.#last_us = at_us;
      this.#frame(this.#video, at_us);
    }
  }

  /** Asks the camera for as many lines as are of use. */
  async set_height(height: number): Promise<void> {
    const is_large = height > SMALL.height;
    if (is_large !== this.#is_large) {
      this.#is_large = is_large;
      const { width, height } = is_large ? LARGE : SMALL;
      await this.stream.getVideoTracks()[0]?.applyConstraints({ width: { ideal: width }, height: { ideal: height } });
    }
  }

  stop(): void {
    this.#is_stopped = true;
    this.stream.getTracks().forEach((track) => {
      track.stop();
    });
    this.#video.srcObject = null;
  }
}

/** When a frame was taken, as far as the browser knows: sound that was taken then is heard with it. */
function taken_at({ captureTime, presentationTime }: VideoFrameCallbackMetadata): number {
  const now = performance.now();
  const at = captureTime ?? presentationTime;
  return at <= now && now - at < UNDER_WAY_MS_MAX ? at : now;
}
