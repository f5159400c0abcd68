//! By what the relay is reached, as far as a program can say.

use std::{net::SocketAddr, path::PathBuf};

use supernode_tcp::ProxyChoice;

/// By which ways a relay is reached, where its invite says that it has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ways {
    /// UDP, and TCP 250 ms later; what answers first. From TCP the session moves to UDP as soon as that gets through.
    #[default]
    Both,
    /// UDP only.
    Udp,
    /// TCP only, and no move: for whoever wants to see how that is.
    Tcp,
}

/// How to get to relays. The defaults suit a person's device.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Local address to send from; by default any port, of both families where there is IPv6.
    pub bind: Option<SocketAddr>,
    /// By which ways to go. Default both.
    pub ways: Ways,
    /// Through which HTTP proxy to go over TCP. Default what `HTTPS_PROXY` and `NO_PROXY` say.
    pub proxy: ProxyChoice,
    /// For an invite without a pin: a PEM file with authorities that may vouch for the relay, beside those of this
    /// system. By default there is none.
    pub authority_file: Option<PathBuf>,
}
