//! What a shard has counted, readable from another thread without slowing it down.
//!
//! The shard counts in plain integers. Those that tests and operators watch closely it stores here once a turn; the
//! rest, distributions above all, once a second, and not at all while somebody is reading them.

use std::sync::{
    Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{AtomicU64, Ordering},
};

use supernode_proto::close::CloseCode;

use super::distributions::Distributions;
use crate::core::{
    counts::Counts,
    ladder::RUNGS,
    ledger::{DropReason, Ledger, NodeCounts, RefuseReason},
};

/// Close codes that have a counter of their own, each in the place of its number; an unknown one counts under the last.
pub const CODES: usize = CloseCode::ALL[CloseCode::ALL.len() - 1].code as usize + 2;

macro_rules! tallies {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A shard's own counts of packets and sessions.
        #[derive(Debug, Clone)]
        pub struct Tally {
            $($(#[$doc])* pub $name: u64,)*
            /// Sessions that ended, by the code's number.
            pub closed: [u64; CODES],
        }

        // By hand: an array has a default up to 32 places only.
        impl Default for Tally {
            fn default() -> Self {
                Self { $($name: 0,)* closed: [0; CODES] }
            }
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
            recalled: AtomicU64,
            late_joiners: AtomicU64,
            cached_bytes: AtomicU64,
            groups_outgrown: AtomicU64,
            longest_wait_us: AtomicU64,
            commits_rejected: AtomicU64,
            ladder_down: [AtomicU64; RUNGS],
            ladder_up: [AtomicU64; RUNGS],
            dropped: [AtomicU64; DropReason::COUNT],
            refused: [AtomicU64; RefuseReason::COUNT],
            nodes_offered: AtomicU64,
            nodes_sent: AtomicU64,
            nodes_lost: AtomicU64,
            nodes_received: AtomicU64,
            nodes_dropped: [AtomicU64; DropReason::COUNT],
            detail: Mutex<Detail>,
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
                    recalled: AtomicU64::new(0),
                    late_joiners: AtomicU64::new(0),
                    cached_bytes: AtomicU64::new(0),
                    groups_outgrown: AtomicU64::new(0),
                    longest_wait_us: AtomicU64::new(0),
                    commits_rejected: AtomicU64::new(0),
                    ladder_down: zeros(),
                    ladder_up: zeros(),
                    dropped: zeros(),
                    refused: zeros(),
                    nodes_offered: AtomicU64::new(0),
                    nodes_sent: AtomicU64::new(0),
                    nodes_lost: AtomicU64::new(0),
                    nodes_received: AtomicU64::new(0),
                    nodes_dropped: zeros(),
                    detail: Mutex::default(),
                }
            }
        }

        impl Counters {
            pub(crate) fn publish(&self, tally: &Tally, ledger: &Ledger) {
                $(self.$name.store(tally.$name, Ordering::Relaxed);)*
                store(&self.closed, &tally.closed);
                self.objects_in.store(ledger.objects_in, Ordering::Relaxed);
                store(&self.dropped, &ledger.dropped);
                store(&self.refused, &ledger.refused);
                store(&self.nodes_dropped, &ledger.nodes.dropped);
                self.nodes_received.store(ledger.nodes.received, Ordering::Relaxed);
                self.nodes_lost.store(ledger.nodes.lost, Ordering::Relaxed);
                self.nodes_sent.store(ledger.nodes.sent, Ordering::Relaxed);
                self.nodes_offered.store(ledger.nodes.offered, Ordering::Relaxed);
                store(&self.ladder_down, &ledger.ladder_down);
                store(&self.ladder_up, &ledger.ladder_up);
                self.late_joiners.store(ledger.late_joiners, Ordering::Relaxed);
                self.cached_bytes.store(ledger.cached_bytes, Ordering::Relaxed);
                self.groups_outgrown.store(ledger.groups_outgrown, Ordering::Relaxed);
                self.longest_wait_us.store(ledger.longest_wait_us, Ordering::Relaxed);
                self.commits_rejected.store(ledger.commits_rejected, Ordering::Relaxed);
                self.delivered_datagrams.store(ledger.delivered_datagrams, Ordering::Relaxed);
                self.recalled.store(ledger.recalled, Ordering::Relaxed);
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
                    recalled: load(&self.recalled),
                    late_joiners: load(&self.late_joiners),
                    cached_bytes: load(&self.cached_bytes),
                    groups_outgrown: load(&self.groups_outgrown),
                    longest_wait_us: load(&self.longest_wait_us),
                    commits_rejected: load(&self.commits_rejected),
                    ladder_down: self.ladder_down.each_ref().map(load),
                    ladder_up: self.ladder_up.each_ref().map(load),
                    dropped: self.dropped.each_ref().map(load),
                    refused: self.refused.each_ref().map(load),
                    nodes: NodeCounts {
                        offered: load(&self.nodes_offered),
                        sent: load(&self.nodes_sent),
                        dropped: self.nodes_dropped.each_ref().map(load),
                        lost: load(&self.nodes_lost),
                        received: load(&self.nodes_received),
                    },
                    ..Ledger::default()
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
    /// Packets that the kernel had no room for: a full send buffer or queue.
    send_no_room,
    /// Packets that a firewall or a policy of this machine refused.
    send_forbidden,
    /// Packets for which this machine has no way out.
    send_unreachable,
    /// Packets larger than the interface takes: QUIC finds out the largest in this way.
    send_too_large,
    /// Packets that the kernel did not take for another reason.
    send_other,
    /// Bundles of packets that the kernel refused, and that went out packet by packet.
    bundles_refused,
    /// Most packets in one send now.
    segments_out_max,
    /// Packets that the kernel threw away because the receive buffer was full.
    kernel_drops,
    /// Packets passed to the shard that their connection ID names.
    handed_over,
    /// Packets of the process that this one replaces, passed on to it.
    passed_back,
    /// Packets of that process that were lost on the way, because it was too busy or has ended.
    passed_back_lost,
    /// Turns of the loop: a shard that makes none is stuck.
    turns,
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
    /// Of them those of native clients over UDP, as of the last look at all of them: a thousand a second.
    sessions_native,
    /// ... over TCP.
    sessions_over_tcp,
    /// ... and those of pages in browsers.
    sessions_of_pages,
    /// Tracks published or subscribed here now.
    tracks,
    /// Subscriptions of this shard's sessions now.
    subscriptions,
    /// Watches of this shard's sessions now.
    watches,
    /// Memberships of rooms of this shard's sessions now.
    members,
    /// Longest that an object was seen waiting between the last two censuses, in microseconds.
    queue_oldest_us,
    /// QUIC handshakes that completed.
    handshakes_ok,
    /// QUIC handshakes that did not.
    handshakes_failed,
    /// Addresses asked to prove themselves by Retry.
    retries,
    /// Clients turned away before their handshake, because there were too many or the relay drains.
    handshakes_refused,
    /// Handshakes refused because the client's network had as many as it may, or as many connections.
    refused_by_prefix,
    /// Handshakes above what is in progress before addresses must prove themselves by a Retry.
    over_before_retry,
    /// Handshakes that were given up for others, because all places were taken.
    over_handshakes,
    /// Handshakes above what may be begun in a second: their first packets were read, and not answered.
    over_pace,
    /// First packets that were dropped unread, because their network had as many looked at as there was time for.
    first_packets_unread,
    /// Packets that were not sent to an address that had proven nothing, because it would have been sent more than three
    /// times what came from it.
    unproven_withheld,
    /// Packets that were dropped because they were crumbs, or took long.
    crumbs_dropped,
    /// Times that a client's streams were left unread because another shard had much mail to take.
    held_for_mail,
    /// Packets of no connection that were answered: with the version that is spoken, or with why they are turned away.
    strangers_answered,
    /// Those that were dropped because as many had been answered as may be.
    strangers_dropped,
    /// Connections above what one network may have.
    over_prefix_connections,
    /// Handshakes above what one network may begin: those that had to prove their address, and those that were refused.
    over_prefix_handshakes,
    /// Messages of mailboxes that members with too much to read were to be sent later.
    mls_withheld,
    /// Times that control mail from another shard was lost and the sessions had to be closed.
    desynchronised,
}

/// What is published once a second.
#[derive(Debug, Clone, Default)]
pub struct Detail {
    /// Objects and bytes by class, and how long objects stayed; its other counts lag behind the snapshot's.
    pub ledger: Ledger,
    /// What the control plane did.
    pub counts: Counts,
    /// How the turns went.
    pub distributions: Distributions,
}

impl Counters {
    /// Publishes what lags, unless somebody is reading it right now.
    pub(crate) fn publish_detail(&self, ledger: &Ledger, counts: &Counts, distributions: &Distributions) {
        let mut detail = match self.detail.try_lock() {
            Ok(detail) => detail,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        detail.ledger.clone_from(ledger);
        detail.counts.clone_from(counts);
        detail.distributions.clone_from(distributions);
    }

    /// What was published last, at most about a second ago. The shard's thread does not wait for whoever holds it.
    pub fn detail(&self) -> MutexGuard<'_, Detail> {
        self.detail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// Packets that the kernel did not take, but for those that were to find out how large one may be.
    pub fn send_errors(&self) -> u64 {
        self.send_no_room + self.send_forbidden + self.send_unreachable + self.send_other
    }

    /// Counts a session that ended.
    pub(crate) fn close(&mut self, code: CloseCode) {
        self.closed[code.place()] += 1;
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
