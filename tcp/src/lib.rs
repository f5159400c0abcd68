//! The way over TCP, from a client's end, for networks that let no UDP through.

mod proxy;

pub use self::proxy::{BadProxy, Proxy, ProxyChoice};
