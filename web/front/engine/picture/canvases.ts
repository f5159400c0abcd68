/** Where pictures are shown: of each the newest frame, when the browser draws. */

type Drawable = VideoFrame | HTMLVideoElement;

export class Canvases {
  readonly #canvases = new Map<string, HTMLCanvasElement>();
  readonly #newest = new Map<string, VideoFrame>();
  #is_due = false;

  /** Shows what is under this key there, until it is shown elsewhere or nowhere. */
  set(key: string, canvas: HTMLCanvasElement | undefined): void {
    if (canvas === undefined) {
      this.#canvases.delete(key);
      this.#take(key)?.close();
    } else {
      for (const [other, shown] of this.#canvases) {
        if (shown === canvas && other !== key) {
          this.set(other, undefined);
        }
      }
      this.#canvases.set(key, canvas);
    }
  }

  has(key: string): boolean {
    return this.#canvases.has(key);
  }

  /** Shows this frame, and closes it. */
  show(key: string, frame: VideoFrame): void {
    this.#take(key)?.close();
    if (!this.#canvases.has(key)) {
      frame.close();
      return;
    }
    this.#newest.set(key, frame);
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
    for (const [key, frame] of this.#newest) {
      const canvas = this.#canvases.get(key);
      if (canvas !== undefined) {
        draw(canvas, frame, frame.displayWidth, frame.displayHeight);
      }
      frame.close();
    }
    this.#newest.clear();
  }

  #take(key: string): VideoFrame | undefined {
    const frame = this.#newest.get(key);
    this.#newest.delete(key);
    return frame;
  }
}

function draw(canvas: HTMLCanvasElement, picture: Drawable, width: number, height: number): void {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  canvas.getContext("2d", { alpha: false })?.drawImage(picture, 0, 0, width, height);
}
