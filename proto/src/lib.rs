//! The wire of Supernode, version 1 (`docs/PROTOCOL.md`): control messages, the object header, identities and
//! what they sign, close codes and limits.
//!
//! No I/O, no clock, no randomness, and no key that could open a call.

pub mod close;
pub mod cluster;
pub mod control;
pub mod identity;
pub mod invite;
pub mod limits;
pub mod mls;
pub mod object;
pub mod page_link;
pub mod probe;
pub mod tcp;
mod varint;
pub mod words;

/// ALPN of the native protocol.
pub const ALPN: &[u8] = b"supernode/1";
/// ALPN of pages in browsers: HTTP/3, which carries WebTransport.
pub const H3_ALPN: &[u8] = b"h3";
/// The path of a page's request for a session, version included.
pub const H3_PATH: &str = "/supernode/1";
/// UDP port of a relay that says nothing else.
pub const DEFAULT_PORT: u16 = 4433;
/// The one protocol version there is.
pub const VERSION: u32 = 1;
