//! For tests: a relay in this process, clients that know nothing but the wire, and what must hold when they have left.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "for tests: their names say what they do, and a failed unwrap is a failed test"
)]

mod client;
mod half_open;
mod lives;
mod objects;
mod page;
mod people;
mod ports;
mod proxy;
mod push_service;
mod relay;
mod shim;
mod wait;
mod way;

pub use client::{Client, client_config, client_tls, stop_code, subscription};
pub use half_open::HalfOpen;
pub use objects::{datagram, end_of_pictures, stream};
pub use people::{Person, Room, Standing, open_key};
pub use ports::lasting_port;
pub use proxy::Proxy;
pub use push_service::{PushService, Pushed, Says};
pub use relay::{Door, Relay, Setup};
pub use shim::Shim;
pub use supernode_server::shard::Onward;
pub use wait::{PATIENCE, eventually, in_time, unix_s};
pub use way::Way;
