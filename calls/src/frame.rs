//! What is inside the seal: a small header with the times of a frame, then the codec's bytes.
//!
//! ```text
//! captured at (8 bytes) | presentation (8 bytes) | codec bytes
//! ```
//!
//! Both are microseconds, big-endian: the sender's Unix time when the frame was captured, from which a receiver with a
//! synchronised clock reads the delay, and the frame's place on the track's own time line. The relay sees neither.

use bytes::Bytes;
use supernode_proto::object::{Flags, Layer};

/// Bytes of the header in front of the codec's.
pub const FRAME_HEADER_BYTES: usize = 16;

/// The times of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTimes {
    /// When it was captured: the sender's Unix time, in microseconds.
    pub captured_at_us: u64,
    /// Its place on the track's time line, in microseconds.
    pub presentation_us: u64,
}

impl FrameTimes {
    /// The header.
    pub fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.captured_at_us.to_be_bytes());
        bytes[8..].copy_from_slice(&self.presentation_us.to_be_bytes());
        bytes
    }

    /// Splits what was sealed into the times and the codec's bytes; `None` when it is shorter than the header.
    pub fn split(sealed_payload: &[u8]) -> Option<(Self, &[u8])> {
        let (captured_at, rest) = sealed_payload.split_first_chunk()?;
        let (presentation, codec) = rest.split_first_chunk()?;
        let times = Self {
            captured_at_us: u64::from_be_bytes(*captured_at),
            presentation_us: u64::from_be_bytes(*presentation),
        };
        Some((times, codec))
    }
}

/// A frame to send.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingFrame<'a> {
    /// The codec's bytes.
    pub payload: &'a [u8],
    /// Place on the track's time line, in microseconds.
    pub presentation_us: u64,
    /// Decodable without any earlier frame. In spatial layer 0 it starts a new group of a video track, and the first frame
    /// must be one; above, a layer that was left out goes on with it.
    pub keyframe: bool,
    /// Temporal layer, 0 (the base) to 7. Audio has none.
    pub temporal_layer: u8,
    /// Spatial layer, 0 (the base) to 7: of the frames of one time, a receiver gets those up to its own. Audio has none.
    pub spatial_layer: u8,
    /// No other frame needs it.
    pub discardable: bool,
    /// How lively it is: 0 silent, 1 quiet, 2 speaking, 3 loud. Sent on tracks that show it only; what is above 3 is 3.
    pub activity: u8,
}

impl<'a> OutgoingFrame<'a> {
    /// A packet of audio or data: independent of all others.
    pub fn independent(payload: &'a [u8], presentation_us: u64) -> Self {
        Self { discardable: true, ..Self::video(payload, presentation_us, true) }
    }

    /// A frame of video in one layer.
    pub fn video(payload: &'a [u8], presentation_us: u64, keyframe: bool) -> Self {
        Self {
            payload,
            presentation_us,
            keyframe,
            temporal_layer: 0,
            spatial_layer: 0,
            discardable: false,
            activity: 0,
        }
    }
}

/// A frame that was received and opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which independently decodable group of the track.
    pub group: u64,
    /// Which object of the group.
    pub object: u64,
    /// What the sender said about it.
    pub flags: Flags,
    /// Its layer.
    pub layer: Layer,
    /// When it was captured and where it belongs.
    pub times: FrameTimes,
    /// The codec's bytes.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_come_back_with_the_codec_bytes() {
        let times = FrameTimes { captured_at_us: 0x0102_0304_0506_0708, presentation_us: 20_000 };
        let sealed = [&times.to_bytes()[..], b"codec"].concat();
        assert_eq!(sealed[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(FrameTimes::split(&sealed), Some((times, &b"codec"[..])));
    }

    #[test]
    fn a_payload_shorter_than_the_header_is_no_frame() {
        for length in 0..FRAME_HEADER_BYTES {
            assert_eq!(FrameTimes::split(&vec![0; length]), None);
        }
        assert!(FrameTimes::split(&[0; FRAME_HEADER_BYTES]).is_some_and(|(_, codec)| codec.is_empty()));
    }
}
