//! What a client that publishes may have in flight towards the relay, and how many streams it may have open for it.
//!
//! QUIC keeps what came behind a gap, and with it the packets that it came in: of each stream up to [`STREAM_KEEPS`], and up
//! to one and a half times what it keeps of the stream where that is more. Only then does it copy the pieces out of them.
//! So both count among what the relay can be made to hold, each in a pool that all publishers share.

use quinn_proto::{Connection, Dir, VarInt};
use supernode_proto::limits as wire;

use super::transport::{SESSION_WINDOW, STREAMS_BEFORE_A_TRACK};
use crate::core::{directory::Directory, limits::Limits, pool::Share};

/// Bytes of packets that QUIC keeps of one stream for pieces of it, in which they are less than a 2.5th.
pub const STREAM_KEEPS: usize = 32 * 1024;
/// Bytes of packets that QUIC keeps for so many bytes of a stream, itself and one and a half times as much.
const KEPT_FOR: (usize, usize) = (5, 2);
/// Bytes that all streams of one publisher may have in flight, as far as the relay has them.
const WINDOW: usize = 4 * 1024 * 1024;
/// Streams that a publisher may open at first. Default 4: a picture's temporal layers.
const STREAMS_AT_FIRST: u32 = 4;

/// What one publisher has of it; given back with the connection. It is not taken back before: QUIC has no way to.
#[derive(Debug)]
pub(super) struct Publishing {
    streams: Share,
    _window: Share,
}

impl Publishing {
    /// A client publishes: from now on it may have as much in flight, and as many streams, as there are for one more.
    pub(super) fn begin(quic: &mut Connection, directory: &Directory, limits: &Limits) -> Self {
        let (kept, sent) = KEPT_FOR;
        let mut window = directory.windows().share();
        let granted =
            window.take((WINDOW - SESSION_WINDOW) / sent * kept, limits.relay_windows_bytes_max) / kept * sent;
        quic.set_receive_window(VarInt::from_u32((SESSION_WINDOW + granted) as u32));
        let mut publishing = Self { streams: directory.streams().share(), _window: window };
        publishing.allow(quic, STREAMS_AT_FIRST, limits);
        publishing
    }

    /// It has so many open: once they are half of what it may have, it may have twice as many, so that it need not wait.
    pub(super) fn keep_ahead(&mut self, quic: &mut Connection, open: u32, limits: &Limits) {
        let may = self.allowed();
        if open * 2 > may && may < wire::MEMBER_STREAMS_MAX {
            self.allow(quic, (may * 2).min(wire::MEMBER_STREAMS_MAX), limits);
        }
    }

    /// Streams that it may have open.
    fn allowed(&self) -> u32 {
        STREAMS_BEFORE_A_TRACK + (self.streams.bytes() / STREAM_KEEPS) as u32
    }

    fn allow(&mut self, quic: &mut Connection, wanted: u32, limits: &Limits) {
        let pool_max = u64::from(limits.relay_streams_max) * STREAM_KEEPS as u64;
        let more = (wanted - STREAMS_BEFORE_A_TRACK) as usize;
        let there_are = self.streams.bytes_max(pool_max) / STREAM_KEEPS;
        let had = self.streams.bytes() / STREAM_KEEPS;
        self.streams.set(more.min(there_are).max(had) * STREAM_KEEPS);
        quic.set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(self.allowed()));
    }
}
