//! Whether somebody speaks in an Opus packet, from its first bytes and without decoding it (RFC 6716).

/// `Some(true)` if the encoder heard a voice in the packet, `Some(false)` if it did not; `None` for music mode (CELT),
/// which does not say, and for packets that are cut short.
///
/// In SILK and hybrid mode each frame begins with a flag for each 20 ms of each channel (RFC 6716 section 4.2.3). They
/// are coded with equal probabilities at the very beginning, so that they are the first bits of the frame.
pub fn has_voice(packet: &[u8]) -> Option<bool> {
    let (toc, rest) = packet.split_first()?;
    let silk_frames = silk_frames(toc >> 3)?;
    let first = match toc & 3 {
        // One frame, or two equally long ones.
        0 | 1 => rest,
        // Two, behind the length of the first.
        2 => rest.get(length_bytes(rest)?..)?,
        // Several, behind their count, padding, and lengths if they vary (section 3.2.5).
        _ => several(rest)?,
    };
    let Some(bits) = first.first() else { return Some(false) };
    let mid = bits >> (8 - silk_frames);
    // The second channel's flags follow the first one's and its bit for redundancy.
    let is_stereo = toc & 4 != 0;
    let side = if is_stereo { (bits << (silk_frames + 1)) >> (8 - silk_frames) } else { 0 };
    Some(mid != 0 || side != 0)
}

/// Flags of a frame, by configuration (section 3.1); none in CELT mode.
fn silk_frames(config: u8) -> Option<u32> {
    match config {
        // SILK: 10, 20, 40 and 60 ms at three bandwidths.
        0..=11 => Some([1, 1, 2, 3][usize::from(config % 4)]),
        // Hybrid: 10 and 20 ms.
        12..=15 => Some(1),
        _ => None,
    }
}

/// How many bytes a frame's length takes (section 3.2.1).
fn length_bytes(bytes: &[u8]) -> Option<usize> {
    Some(if *bytes.first()? < 252 { 1 } else { 2 })
}

/// The bytes from the first frame of a packet of several on.
fn several(rest: &[u8]) -> Option<&[u8]> {
    let (count, mut rest) = rest.split_first()?;
    let (varies, is_padded, frames) = (count & 0x80 != 0, count & 0x40 != 0, count & 0x3f);
    if is_padded {
        // 255 says that the length goes on.
        let continued = rest.iter().take_while(|byte| **byte == 255).count();
        rest = rest.get(continued + 1..)?;
    }
    if varies {
        for _ in 1..frames {
            rest = rest.get(length_bytes(rest)?..)?;
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::BufReader};

    use super::*;
    use crate::ogg_opus;

    #[test]
    fn the_flag_is_where_each_kind_of_packet_has_it() {
        // SILK wideband 20 ms mono: one frame, two alike, two of other lengths, three behind padding and lengths.
        for (packet, voice) in [
            (&[9 << 3, 0x80][..], true),
            (&[9 << 3, 0x7f], false),
            (&[9 << 3 | 1, 0x80, 0], true),
            (&[9 << 3 | 2, 1, 0x80, 0], true),
            (&[9 << 3 | 2, 252, 0, 0x00], false),
            (&[9 << 3 | 3, 0xc3, 2, 1, 1, 0x80, 0, 0, 0, 0], true),
            (&[9 << 3 | 3, 0x03, 0x80, 0, 0], true),
            // 60 ms has three flags, stereo six with one bit between.
            (&[11 << 3, 0x20], true),
            (&[11 << 3, 0x1f], false),
            (&[9 << 3 | 4, 0x20], true),
            (&[9 << 3 | 4, 0x40], false),
            // Nothing was worth sending.
            (&[9 << 3], false),
        ] {
            assert_eq!(has_voice(packet), Some(voice), "{packet:02x?}");
        }
        assert_eq!(has_voice(&[31 << 3, 0x80]), None, "music mode");
        assert_eq!(has_voice(&[]), None);
        assert_eq!(has_voice(&[9 << 3 | 2]), None, "cut short");
        assert_eq!(has_voice(&[9 << 3 | 3, 0x43, 255]), None, "cut short");
    }

    #[test]
    fn the_samples_speak_most_of_the_time_and_pause_at_their_end() {
        for sample in ["speech-a.opus", "speech-b.opus"] {
            let file = File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../client/samples/").to_owned() + sample)
                .expect("there");
            let mut reader = ogg_opus::Reader::new(BufReader::new(file)).expect("an Ogg Opus file");
            let (mut voiced, mut packets) = (0, 0);
            while let Some(packet) = reader.next_packet().expect("whole") {
                packets += 1;
                voiced += u32::from(has_voice(&packet.data) == Some(true));
            }
            assert!(voiced > packets / 3 && voiced < packets, "{sample}: {voiced} of {packets}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)) {
            has_voice(&packet);
        }
    }
}
