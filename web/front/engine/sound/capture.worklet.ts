/** Gathers what the microphone gives into packets and sends them to whoever has the other end of the port, with when it was. */
import type { Captured } from "../messages.ts";


/** Samples of a packet: 20 ms. */
const PACKET = 960;

class Capture extends AudioWorkletProcessor {
  #packet = new Float32Array(PACKET);
  #filled = 0;

  override process(inputs: Float32Array[][]): boolean {
    const channels = inputs[0] ?? [];
    const length = channels[0]?.length ?? 0;
    for (let at = 0; at < length; at++) {
      let sum = 0;
      for (const channel of channels) {
        sum += channel[at] ?? 0;
      }
      this.#packet[this.#filled++] = sum / channels.length;
      if (this.#filled === PACKET) {
        const captured: Captured = { samples: this.#packet, until_ms: Date.now() };
        this.port.postMessage(captured, [this.#packet.buffer]);
        this.#packet = new Float32Array(PACKET);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
