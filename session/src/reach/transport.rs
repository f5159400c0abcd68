//! How a client's QUIC behaves, in numbers: whoever drives QUIC tells it these.

use std::time::Duration;

/// Datagrams that may wait here to be sent, or to be read. Unit: bytes. Audio of several seconds; what is older helps
/// nobody.
pub const DATAGRAM_BUFFER_BYTES: usize = 128 * 1024;
/// Media streams that the relay may have open at once: a group of each layer of a few dozen tracks.
pub const MEDIA_STREAMS_MAX: u32 = 128;
/// What the relay may send on one stream before it is read. Unit: bytes. A key frame of the largest size and what follows
/// it.
pub const STREAM_WINDOW_BYTES: u32 = 3 * 1024 * 1024;
/// The same of all streams together. Unit: bytes.
pub const RECEIVE_WINDOW_BYTES: u32 = 12 * 1024 * 1024;
/// What may wait to be acknowledged. Unit: bytes. More would only wait in a queue that we cannot reorder.
pub const SEND_WINDOW_BYTES: u64 = 2 * 1024 * 1024;
/// How long a connection may be silent before it says something, so that no NAT forgets it.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long it may hear nothing before it is over. Unit: ms.
pub const IDLE_TIMEOUT_MS: u32 = 30_000;
