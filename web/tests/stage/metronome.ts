/** In the page of a test: something that beeps and flashes at the same moments, in place of microphone and camera. */

/** From one beat to the next; no delay that is measured is as long. */
const BEAT_MS = 900;
/** Of a beat. */
const LOUD_MS = 60;
const BRIGHT_MS = 300;
const HZ = 1000;
const LOUDNESS = 0.4;
/** Beats are written down so long ahead. */
const AHEAD_MS = 400;

/** What a page is given for its devices, from now on. */
export async function metronome(): Promise<MediaStream> {
  const context = new AudioContext({ sampleRate: 48_000 });
  await context.resume();
  const [tone, gain, out] = [new OscillatorNode(context, { frequency: HZ }), new GainNode(context, { gain: 0 }), new MediaStreamAudioDestinationNode(context)];
  tone.connect(gain).connect(out);
  tone.start();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [640, 360];
  const drawn = canvas.getContext("2d");
  let [next, bright_at] = [performance.now() + AHEAD_MS, Infinity];
  setInterval(() => {
    const now = performance.now();
    if (next - now < AHEAD_MS / 2) {
      const at = context.currentTime + (next - now) / 1000;
      gain.gain.setValueAtTime(LOUDNESS, at);
      gain.gain.setValueAtTime(0, at + LOUD_MS / 1000);
      bright_at = next;
      next += BEAT_MS;
    }
    const is_bright = now >= bright_at && now < bright_at + BRIGHT_MS;
    if (drawn !== null) {
      drawn.fillStyle = is_bright ? "#fff" : "#000";
      drawn.fillRect(0, 0, canvas.width, canvas.height);
      // Something moves, as in front of any camera.
      drawn.fillStyle = "#888";
      drawn.fillRect((now / 10) % canvas.width, 0, 8, 8);
    }
  }, 8);
  return new MediaStream([...out.stream.getAudioTracks(), ...canvas.captureStream(30).getVideoTracks()]);
}
