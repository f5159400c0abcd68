//! What a shard counts, and what is seen of it from outside.

pub mod counters;
pub mod distributions;

pub(crate) mod census;
pub(crate) mod inspect;

use std::time::{Duration, Instant};

use self::{
    counters::{Counters, Tally},
    distributions::{Distributions, TurnStart},
};
use super::{
    NodeFigures,
    connections::Connections,
    quic::{crypto, key_phases},
    tcp,
};
use crate::core::{ShardCore, counts::Counts, ledger::Ledger};

/// Connections whose paths are sampled at once: a tenth of a millisecond, however many there are.
const SAMPLES_AT_ONCE: u32 = 1024;

/// One shard's figures.
#[derive(Default)]
pub(crate) struct Figures {
    tally: Tally,
    distributions: Distributions,
    /// The first connection whose path is sampled next.
    sample_next: u32,
    /// Sessions of this round by kind of link: native, over TCP, of pages.
    sampled: [u64; 3],
}

impl Figures {
    /// What is counted one by one.
    pub(crate) fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// A turn begins at this time; the shard had wanted to be awake at the deadline at the latest.
    pub(crate) fn begin_turn(&self, at: Instant, deadline: Option<Instant>) -> TurnStart {
        TurnStart::new(&self.tally, at, deadline)
    }

    /// It has ended.
    pub(crate) fn end_turn(&mut self, start: &TurnStart, ended: Instant) {
        self.distributions.turn(start, &self.tally, ended);
    }

    /// The oldest object of some connection has waited so long.
    pub(crate) fn waited(&mut self, oldest: Duration) {
        self.distributions.waited(oldest);
    }

    /// Takes note of what is counted only now and then. Returns the links of those whose peers have acknowledged nothing
    /// under new keys for too long.
    pub(crate) fn sample(
        &mut self,
        connections: &Connections,
        core: &mut ShardCore,
        nodes: Option<NodeFigures>,
    ) -> Vec<u32> {
        let holdings = core.holdings();
        self.tally.sessions = holdings.sessions;
        self.tally.tracks = holdings.tracks;
        self.tally.subscriptions = holdings.subscriptions;
        self.tally.watches = holdings.watches;
        self.tally.members = holdings.members;
        self.tally.queue_oldest_us = self.distributions.take_longest_wait().as_micros() as u64;
        self.distributions.holdings = holdings;
        self.distributions.nodes = nodes;
        core.ledger.cached_bytes = core.cache.bytes() as u64;
        core.ledger.groups_outgrown = core.cache.outgrown();
        self.sample_paths(connections, core)
    }

    /// Takes note of the round-trip times and rates of some connections, after each other all of them.
    fn sample_paths(&mut self, connections: &Connections, core: &ShardCore) -> Vec<u32> {
        let first = if self.sample_next < connections.links() { self.sample_next } else { 0 };
        let last = (first + SAMPLES_AT_ONCE).min(connections.links());
        self.sample_next = last;
        if first == 0 {
            self.sampled = [0; 3];
        }
        let mut stale = Vec::new();
        for connection in (first..last).filter_map(|link| connections.get(link)) {
            let Some(session) = connection.session() else { continue };
            let is_over_tcp = tcp::is_over_tcp(connection.quic.remote_address());
            self.sampled[if connection.codec.is_page() { 2 } else { usize::from(is_over_tcp) }] += 1;
            if crypto::told(connection.quic.crypto_session()).unanswered > key_phases::UNANSWERED_PACKETS_MAX {
                stale.push(session.link);
            }
            self.distributions.rtt_us.observe(connection.quic.rtt().as_micros() as u64, 1);
            if let Some(bits @ 1..) = core.path_bits_per_second(session.link) {
                self.distributions.path_kbits.observe(bits / 1000, 1);
            }
        }
        if last == connections.links() {
            let [native, over_tcp, of_pages] = self.sampled;
            self.tally.sessions_native = native;
            self.tally.sessions_over_tcp = over_tcp;
            self.tally.sessions_of_pages = of_pages;
        }
        stale
    }

    /// Publishes what is watched closely.
    pub(crate) fn publish(&self, counters: &Counters, ledger: &Ledger) {
        counters.publish(&self.tally, ledger);
    }

    /// Publishes the rest, which may lag.
    pub(crate) fn publish_detail(&self, counters: &Counters, ledger: &Ledger, counts: &Counts) {
        counters.publish_detail(ledger, counts, &self.distributions);
    }
}
