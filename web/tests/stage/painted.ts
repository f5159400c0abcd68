/** In the page of a test: a camera that shows one colour, in which something moves. Small and slow, since eight of them share a
 *  machine. */
export function painted(colour: string): MediaStreamTrack {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 180];
  const drawn = canvas.getContext("2d");
  setInterval(() => {
    if (drawn !== null) {
      drawn.fillStyle = colour;
      drawn.fillRect(0, 0, canvas.width, canvas.height);
      drawn.fillStyle = "#fff";
      drawn.fillRect((performance.now() / 10) % canvas.width, 50, 20, 20);
    }
  }, 66);
  const [track] = canvas.captureStream(15).getVideoTracks();
  if (track === undefined) {
    throw new Error("a canvas gives no picture");
  }
  return track;
}
