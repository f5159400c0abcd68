/** Where pictures are shown: of each the newest frame, when the browser draws. */

type Drawable = VideoFrame | HTMLVideoElement;

/** How fast it is followed how long drawing takes. */
const SMOOTHING = 0.05;
/** Longer than this nobody looked: a tab in the background draws nothing. */
const LOOKED_AT_MS_MAX = 250;

interface Waiting {
  readonly frame: VideoFrame;
  /** Unix time. */
  readonly given_at_ms: number;
}

export class Canvases {
  readonly #canvases = new Map<string, HTMLCanvasElement>();
  readonly #newest = new Map<string, Waiting>();
  #is_due = false;
  /** From when a frame is given until it is drawn, in milliseconds. */
  drawn_after_ms = 0;

  /** Shows what is under this key there, until it is shown elsewhere or nowhere. */
  set(key: string, canvas: HTMLCanvasElement | undefined): void {
    if (canvas === undefined) {
      this.#canvases.delete(key);
      this.#take(key)?.frame.close();
    } else {
      for (const [other, shown] of this.#canvases) {
        if (shown === canvas && other !== key) {
          this.set(other, undefined);
        }
      }
      this.#canvases.set(key, canvas);
    }
  }

  get(key: string): HTMLCanvasElement | undefined {
    return this.#canvases.get(key);
  }

  /** Shows this frame, which was given at this Unix time, and closes it. */
  show(key: string, frame: VideoFrame, given_at_ms: number): void {
    this.#take(key)?.frame.close();
    if (!this.#canvases.has(key)) {
      frame.close();
      return;
    }
    this.#newest.set(key, { frame, given_at_ms });
    if (!this.#is_due) {
      this.#is_due = true;
      requestAnimationFrame(() => {
        this.#is_due = false;
        this.#draw();
      });
    }
  }

  /** Shows what this element shows now. */
  show_now(key: string, video: HTMLVideoElement): void {
    const canvas = this.#canvases.get(key);
    if (canvas !== undefined && !document.hidden) {
      draw(canvas, video, video.videoWidth, video.videoHeight);
    }
  }

  #draw(): void {
    const now_ms = performance.timeOrigin + performance.now();
    for (const [key, { frame, given_at_ms }] of this.#newest) {
      if (now_ms - given_at_ms < LOOKED_AT_MS_MAX) {
        this.drawn_after_ms += (now_ms - given_at_ms - this.drawn_after_ms) * SMOOTHING;
      }
      const canvas = this.#canvases.get(key);
      if (canvas !== undefined) {
        draw(canvas, frame, frame.displayWidth, frame.displayHeight);
      }
      frame.close();
    }
    this.#newest.clear();
  }

  #take(key: string): Waiting | undefined {
    const waiting = this.#newest.get(key);
    this.#newest.delete(key);
    return waiting;
  }
}

function draw(canvas: HTMLCanvasElement, picture: Drawable, width: number, height: number): void {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  canvas.getContext("2d", { alpha: false })?.drawImage(picture, 0, 0, width, height);
}
