//! A browser's WebTransport, in a page's worker.
//!
//! What is JavaScript's stays in tasks of the worker's own thread (`tasks`); what the SDK holds are channels to them, which
//! other code may send and share as it does natively.

mod certificates;
mod connection;
mod datagrams;
mod js;
mod network;
mod reach;
mod streams;
mod tasks;

use crate::Transport;

pub(crate) use connection::{Connection, ask, keep};
pub use network::Network;
pub(crate) use reach::{Reach, Tried};
pub(crate) use streams::{RecvStream, SendStream};

/// Where a relay is: only the browser knows its address.
pub(crate) type Place = supernode_proto::invite::HostPort;

/// One that is tried.
pub(crate) type Candidate = Place;

/// By what sessions go if nothing stands in the way.
pub(crate) const USUAL: Transport = Transport::WebTransport;
