/** A note as a file that programs play: Ogg Opus (RFC 3533, RFC 7845) of packets that a browser has encoded. */

const PACKET = 960;
const PRE_SKIP = 312;
/** Packets of a page, one second. */
const PACKETS = 50;

/** In a page: packets of 20 ms of this note. */
export async function encode_note(hz: number, amplitude: number, seconds: number): Promise<string[]> {
  const packets: string[] = [];
  const encoder = new AudioEncoder({
    output: (chunk) => {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      packets.push(btoa(String.fromCharCode(...bytes)));
    },
    error: (error) => {
      throw error;
    },
  });
  encoder.configure({ codec: "opus", sampleRate: 48_000, numberOfChannels: 1, bitrate: 32_000, opus: { frameDuration: 20_000 } });
  for (let packet = 0; packet < seconds * 50; packet++) {
    const samples = Float32Array.from({ length: 960 }, (_, at) => amplitude * Math.sin((2 * Math.PI * hz * (packet * 960 + at)) / 48_000));
    const data = new AudioData({ format: "f32-planar", sampleRate: 48_000, numberOfFrames: 960, numberOfChannels: 1, timestamp: packet * 20_000, data: samples });
    encoder.encode(data);
    data.close();
  }
  await encoder.flush();
  return packets;
}

export function ogg(packets: readonly string[]): Buffer {
  const head = Buffer.concat([Buffer.from("OpusHead"), Buffer.from([1, 1, PRE_SKIP & 0xff, PRE_SKIP >> 8, 0x80, 0xbb, 0, 0, 0, 0, 0])]);
  const tags = Buffer.concat([Buffer.from("OpusTags"), Buffer.from([4, 0, 0, 0]), Buffer.from("test"), Buffer.from([0, 0, 0, 0])]);
  const pages = [page([head], 0, 0, 2), page([tags], 1, 0, 0)];
  for (let at = 0; at < packets.length; at += PACKETS) {
    const some = packets.slice(at, at + PACKETS).map((packet) => Buffer.from(packet, "base64"));
    const is_last = at + PACKETS >= packets.length;
    pages.push(page(some, pages.length, (at + some.length) * PACKET, is_last ? 4 : 0));
  }
  return Buffer.concat(pages);
}

function page(packets: readonly Buffer[], number: number, granule: number, flags: number): Buffer {
  const lacing = packets.flatMap((packet) => [...Array.from({ length: Math.floor(packet.length / 255) }, () => 255), packet.length % 255]);
  const head = Buffer.alloc(27);
  head.write("OggS", 0);
  head.writeUInt8(flags, 5);
  head.writeBigUInt64LE(BigInt(granule), 6);
  head.writeUInt32LE(1, 14);
  head.writeUInt32LE(number, 18);
  head.writeUInt8(lacing.length, 26);
  const whole = Buffer.concat([head, Buffer.from(lacing), ...packets]);
  whole.writeUInt32LE(checksum(whole), 22);
  return whole;
}

function checksum(bytes: Buffer): number {
  let sum = 0;
  for (const byte of bytes) {
    sum ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) {
      sum = sum & 0x8000_0000 ? (sum << 1) ^ 0x04c1_1db7 : sum << 1;
    }
  }
  return sum >>> 0;
}

/** An IVF file again and again, `seconds` long. */
export function repeated(bytes: Buffer, seconds: number): Buffer {
  const head = Buffer.from(bytes.subarray(0, 32));
  const a_second = head.readUInt32LE(16) / Math.max(1, head.readUInt32LE(20));
  const frames: Buffer[] = [];
  for (let at = 32; at + 12 <= bytes.length; at += 12 + bytes.readUInt32LE(at)) {
    frames.push(bytes.subarray(at, at + 12 + bytes.readUInt32LE(at)));
  }
  const last = frames[frames.length - 1];
  const ticks = last === undefined ? 1 : Number(last.readBigUInt64LE(4)) + a_second / 30;
  const all = [head];
  for (let round = 0; round * ticks < seconds * a_second; round++) {
    for (const frame of frames) {
      const copy = Buffer.from(frame);
      copy.writeBigUInt64LE(BigInt(Math.round(round * ticks)) + frame.readBigUInt64LE(4), 4);
      all.push(copy);
    }
  }
  head.writeUInt32LE(all.length - 1, 24);
  return Buffer.concat(all);
}

/** Frames of an IVF file, and the size that its first key frame says. */
export function ivf(bytes: Buffer): { frames: number; width: number; height: number } {
  let [at, frames, width, height] = [32, 0, 0, 0];
  while (at + 12 <= bytes.length) {
    const length = bytes.readUInt32LE(at);
    const frame = bytes.subarray(at + 12, at + 12 + length);
    if (width === 0 && frame.length > 10 && ((frame[0] ?? 1) & 1) === 0) {
      width = frame.readUInt16LE(6) & 0x3fff;
      height = frame.readUInt16LE(8) & 0x3fff;
    }
    at += 12 + length;
    frames += 1;
  }
  return { frames, width, height };
}
