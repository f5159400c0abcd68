/** The page's end of its worker. */
import source from "script:./worker/worker.ts";

import type { Asked, FromWorker, Pictured, Told, ToWorker } from "./messages.ts";

type Answer = { readonly good: (value: never) => void; readonly bad: (trouble: unknown) => void };

export class Line {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Answer>();
  #asked = 0;

  constructor(told: (told: Told) => void, broken: () => void) {
    // A worker of the page's own text: on file:// there is no other file to be had.
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.#worker = new Worker(address);
    this.#worker.onmessage = (event: MessageEvent<FromWorker>) => {
      const message = event.data;
      if ("told" in message) {
        told(message.told);
        return;
      }
      const waiting = this.#waiting.get(message.answers);
      this.#waiting.delete(message.answers);
      if ("trouble" in message) {
        waiting?.bad(message.trouble);
      } else {
        waiting?.good(message.value as never);
      }
    };
    this.#worker.onerror = broken;
  }

  /** Asks, and waits for the answer. */
  ask<Name extends keyof Asked>(
    name: Name,
    args: Parameters<Asked[Name]>,
    transfer: Transferable[] = [],
  ): Promise<ReturnType<Asked[Name]>> {
    const id = (this.#asked += 1);
    const answer = new Promise<ReturnType<Asked[Name]>>((good, bad) => {
      this.#waiting.set(id, { good, bad });
    });
    this.#worker.postMessage({ ask: name, id, args } satisfies ToWorker, transfer);
    return answer;
  }

  /** A picture of ours. */
  send(picture: Pictured, frame: VideoFrame): void {
    this.#worker.postMessage({ picture, frame } satisfies ToWorker, [frame]);
  }
}
