/** In which codec our camera goes out: VP8, which all can, or AV1 where everybody can show it and our machine makes it with ease. */

export type Codec = "vp8" | "av1";

/** As WebCodecs has them; AV1 in its main profile, of a level that goes to 720 lines. */
export const CODEC_NAMES: Readonly<Record<Codec, string>> = { vp8: "vp8", av1: "av01.0.05M.08" };
/** As the header of an IVF file has them. */
export const IVF_NAMES: Readonly<Record<Codec, string>> = { vp8: "VP80", av1: "AV01" };
/** Layers of time, by which the relay thins: without them a codec is of no use in a call. */
export const SCALABILITY = "L1T3";

/** What a browser is asked about: our middle quality. */
const ASKED = { width: 640, height: 360, bitrate: 600_000, framerate: 30 };

/** What this browser can. */
export interface Abilities {
  readonly shows_av1: boolean;
  /** In layers of time, by hardware: a processor that makes VP8 in 6 ms takes 40 for it. */
  readonly makes_av1_well: boolean;
}

/** A browser that can this, and is asked no further. */
export function abilities_of(codec: Codec): Abilities {
  return { shows_av1: codec === "av1", makes_av1_well: codec === "av1" };
}

export async function abilities(): Promise<Abilities> {
  try {
    const shown = await VideoDecoder.isConfigSupported({ codec: CODEC_NAMES.av1 });
    const made = await VideoEncoder.isConfigSupported({
      codec: CODEC_NAMES.av1,
      ...ASKED,
      latencyMode: "realtime",
      scalabilityMode: SCALABILITY,
      hardwareAcceleration: "prefer-hardware",
    });
    return { shows_av1: shown.supported === true, makes_av1_well: made.supported === true };
  } catch {
    // A browser that does not know what it is asked.
    return abilities_of("vp8");
  }
}

/** For these others; of somebody who has told nothing, as programs do, it is not known what they can show. */
export function codec_for(own: Abilities, others: readonly ({ readonly av1: boolean } | undefined)[]): Codec {
  return own.makes_av1_well && others.length > 0 && others.every((other) => other?.av1 === true) ? "av1" : "vp8";
}
