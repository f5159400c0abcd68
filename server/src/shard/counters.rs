//! What a shard has counted, readable from another thread without slowing it down.
//!
//! The shard counts in plain integers and stores them here once a turn; nobody else writes.

use std::sync::atomic::{AtomicU64, Ordering};

use supernode_proto::close::CloseCode;

use crate::core::ledger::{DropReason, Ledger, RefuseReason};

/// Close codes that have a counter of their own; an unknown one counts under the last.
const CODES: usize = CloseCode::ALL.len() + 1;

macro_rules! tallies {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A shard's own counts of packets and sessions.
        #[derive(Debug, Clone, Default)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
            /// Sessions that ended, by position of the code in [`CloseCode::ALL`].
            pub closed: [u64; CODES],
        }

        /// The published copy of a [`Tally`] and a [`Ledger`].
        #[derive(Debug)]
        pub struct Counters {
            $($name: AtomicU64,)*
            closed: [AtomicU64; CODES],
            objects_in: AtomicU64,
            offered: AtomicU64,
            delivered: AtomicU64,
            delivered_datagrams: AtomicU64,
            dropped: [AtomicU64; DropReason::COUNT],
            refused: [AtomicU64; RefuseReason::COUNT],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                    closed: zeros(),
                    objects_in: AtomicU64::new(0),
                    offered: AtomicU64::new(0),
                    delivered: AtomicU64::new(0),
                    delivered_datagrams: AtomicU64::new(0),
                    dropped: zeros(),
                    refused: zeros(),
                }
            }
        }

        impl Counters {
            pub(super) fn publish(&self, tally: &Tally, ledger: &Ledger) {
                $(self.$name.store(tally.$name, Ordering::Relaxed);)*
                store(&self.closed, &tally.closed);
                self.objects_in.store(ledger.objects_in, Ordering::Relaxed);
                store(&self.dropped, &ledger.dropped);
                store(&self.refused, &ledger.refused);
                self.delivered_datagrams.store(ledger.delivered_datagrams, Ordering::Relaxed);
                self.delivered.store(ledger.delivered, Ordering::Relaxed);
                self.offered.store(ledger.offered, Ordering::Relaxed);
            }

            /// What was published last. While traffic flows, the parts may be one turn apart.
            pub fn snapshot(&self) -> (Tally, Ledger) {
                let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let tally = Tally { $($name: load(&self.$name),)* closed: self.closed.each_ref().map(load) };
                let ledger = Ledger {
                    objects_in: load(&self.objects_in),
                    offered: load(&self.offered),
                    delivered: load(&self.delivered),
                    delivered_datagrams: load(&self.delivered_datagrams),
                    dropped: self.dropped.each_ref().map(load),
                    refused: self.refused.each_ref().map(load),
                };
                (tally, ledger)
            }
        }
    };
}

tallies! {
    /// UDP datagrams received, after GRO was undone.
    datagrams_in,
    /// UDP datagrams handed to the kernel, each GSO segment one.
    datagrams_out,
    /// UDP payload bytes received.
    bytes_in,
    /// UDP payload bytes handed to the kernel.
    bytes_out,
    /// System calls that received something.
    recv_batches,
    /// System calls that sent something.
    send_batches,
    /// Packets that the kernel did not take.
    send_errors,
    /// Packets passed to the shard that their connection ID names.
    handed_over,
    /// The receive buffer as the kernel granted it, in bytes.
    receive_buffer_bytes,
    /// The send buffer as the kernel granted it, in bytes.
    send_buffer_bytes,
    /// QUIC connections now.
    connections,
    /// Handshakes in progress now.
    handshaking,
    /// Authenticated sessions now.
    sessions,
    /// Tracks published or subscribed here now.
    tracks,
    /// Subscriptions of this shard's sessions now.
    subscriptions,
    /// QUIC handshakes that completed.
    handshakes_ok,
    /// QUIC handshakes that did not.
    handshakes_failed,
    /// Addresses asked to prove themselves by Retry.
    retries,
    /// Rings started.
    rings_started,
    /// Times that control mail from another shard was lost and the sessions had to be closed.
    desynchronised,
}

impl Tally {
    /// Counts a session that ended.
    pub(super) fn close(&mut self, code: CloseCode) {
        self.closed[(code.0 as usize).min(CODES - 1)] += 1;
    }
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

fn store<const N: usize>(to: &[AtomicU64; N], from: &[u64; N]) {
    for (to, from) in to.iter().zip(from) {
        to.store(*from, Ordering::Relaxed);
    }
}
