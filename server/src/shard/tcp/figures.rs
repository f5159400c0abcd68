//! What is counted of the way over TCP.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! figures {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counters, for every thread.
        #[derive(Debug, Default)]
        pub struct Figures {
            $(pub(super) $name: AtomicU64,)*
        }

        /// What they were at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Snapshot {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl Figures {
            /// Reads all of them.
            pub fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

figures! {
    /// Connections that are open, with those that are not WebSockets yet.
    links,
    /// Connections that came.
    accepted,
    /// Of those, turned away at once: all places are taken.
    over_links,
    /// Turned away: their network has as many as it may, or too many handshakes in a second.
    over_network,
    /// Turned away: too many handshakes in a second.
    over_pace,
    /// Those that did not become WebSockets of ours: something else, or too slow.
    not_opened,
    /// Packets that came.
    packets_in,
    /// Their bytes.
    bytes_in,
    /// Packets that a connection took.
    packets_out,
    /// Their bytes.
    bytes_out,
    /// Packets for a client that waited for too long.
    dropped_late,
    /// Packets for a client that had no room.
    dropped_no_room,
    /// Packets from clients for which a shard's inbox had no room.
    dropped_inbox,
}

impl Figures {
    pub(super) fn count(figure: &AtomicU64, more: u64) {
        figure.fetch_add(more, Relaxed);
    }
}
