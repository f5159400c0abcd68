//! The way over TCP: QUIC's packets as WebSocket messages in TLS (`docs/PROTOCOL.md`, section "The way over TCP").

/// The path that a client asks for; nothing else is served there.
pub const PATH: &str = "/supernode/1";
/// ALPN of the TLS below: what a proxy that looks sees of any web site.
pub const ALPN: &[u8] = b"http/1.1";
/// The longest packet that one message carries. Unit: bytes. More than QUIC finds out to fit any path of the
/// Internet's.
pub const PACKET_BYTES_MAX: usize = 1500;
/// The longest packet that a client sends. Unit: bytes. The size with which QUIC begins: a packet of it goes through
/// any path that the connection may move to.
pub const CLIENT_PACKET_BYTES_MAX: usize = 1200;
/// A packet that TCP has made wait for longer than this is dropped on either side, as a full path would. Unit: ms.
/// What is later helps no call, and what must arrive QUIC sends again.
pub const PACKET_AGE_MS_MAX: u64 = 100;
/// One that is older than this is dropped whatever made it wait. Unit: ms. A machine that has more to do than it can
/// is behind for every packet, and must not be behind by ever more.
pub const PACKET_AGE_ANYHOW_MS_MAX: u64 = 500;
/// What may wait unsent in the system's buffer beside it. Unit: bytes. A few packets: there they age unseen.
pub const NOT_SENT_BYTES_MAX: u32 = 4096;
/// How often a client pings, so that proxies that close what is idle for a minute find nothing idle. Unit: s.
pub const PING_EVERY_S: u64 = 20;
/// A link for which the relay has no packet for so long is closed. Unit: s. More than a QUIC connection that lives
/// is silent.
pub const UNUSED_S_MAX: u64 = 45;
