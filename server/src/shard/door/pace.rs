//! How many handshakes a shard begins in a second, how many first packets it looks at, and whose.
//!
//! A key exchange takes a third of a millisecond of the thread that forwards everybody's media, and a first packet, for
//! which QUIC must derive keys, a hundredth; so both have a rate. Whose turn it is follows from what networks have begun of
//! late: the more a network has, the more must be left for it to begin another. What nobody else wants, one network may
//! have to the last; whoever has begun nothing is let in before all others. Where it matters whether somebody has come
//! before, those who have and those who have not each have half of the pace, and what one half leaves the other has: neither
//! crowd can keep a client out that asks twice.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;

use super::prefixes::Network;

/// For so long a handshake that was begun counts, at least; at most twice as long. Default 15 s: of some thousands of
/// networks that flood at once, each has begun one within it.
pub(crate) const HANDSHAKES_SPAN: Duration = Duration::from_secs(15);
/// The same for first packets. Default 2 s: there are more of them, and each is remembered for its network.
pub(super) const FIRST_PACKETS_SPAN: Duration = Duration::from_secs(2);
/// The least that may be saved up, so that a slow pace has some for everybody, too.
const BURST_MIN: u64 = 4;
/// What a network has begun, and half of the second must be left for it: 32 of one household or host, 128 of its
/// neighbours and 512 of the whole provider. Half is all that is ever asked for, so one network alone gets everything.
const HALF_AT: [u64; 3] = [512, 128, 32];
/// What one handshake costs, in units of which a microsecond brings as many as there may be handshakes in a second.
const UNIT: u64 = 1_000_000;

/// One shard's pace.
#[derive(Debug)]
pub(crate) struct Pace {
    span: Duration,
    bursts_per_second: u64,
    /// For those who come for the first time, and for those who come again.
    left: [u64; 2],
    filled: Instant,
    /// What networks have begun, in this span and in the one before.
    begun: [HashMap<u64, u64, FixedState>; 2],
    turned: Instant,
}

impl Pace {
    /// With as much left as may be: what comes in one of so many parts of a second.
    pub(crate) fn new(span: Duration, bursts_per_second: u64, now: Instant) -> Self {
        Self { span, bursts_per_second, left: [u64::MAX; 2], filled: now, begun: Default::default(), turned: now }
    }

    /// What may be saved up in each half.
    fn half_max(&self, per_second_max: u64) -> u64 {
        (per_second_max / self.bursts_per_second).max(BURST_MIN) * UNIT / 2
    }

    /// Whether less than half of what may be saved up is left: addresses must prove themselves before they get any.
    pub(super) fn is_pressed(&mut self, per_second_max: u64, now: Instant) -> bool {
        self.fill(per_second_max, now);
        self.left.iter().sum::<u64>() < self.half_max(per_second_max)
    }

    /// Whether a client of this network may begin a handshake now, whether or not it has come before.
    pub(crate) fn begin(&mut self, network: &Network, per_second_max: u64, now: Instant) -> bool {
        self.fill(per_second_max, now);
        self.take(self.fuller(), network, per_second_max, now)
    }

    /// The same by whether it has come before.
    pub(super) fn begin_in_turn(&mut self, again: bool, network: &Network, per_second_max: u64, now: Instant) -> bool {
        self.fill(per_second_max, now);
        self.take(usize::from(again), network, per_second_max, now)
    }

    fn take(&mut self, half: usize, network: &Network, per_second_max: u64, now: Instant) -> bool {
        self.forget_old(now);
        let reserve_max = self.half_max(per_second_max) / 2;
        let begun = |group: &u64| self.begun.iter().filter_map(|span| span.get(group)).sum::<u64>();
        let reserve = network
            .groups
            .iter()
            .zip(HALF_AT)
            .map(|(group, half_at)| reserve_max * begun(group).min(half_at) / half_at)
            .max();
        if self.left[half] < reserve.unwrap_or(0) + UNIT {
            return false;
        }
        self.left[half] -= UNIT;
        for group in network.groups {
            *self.begun[0].entry(group).or_default() += 1;
        }
        true
    }

    /// Whether anybody may begin anything now.
    pub(super) fn has_any(&mut self, per_second_max: u64, now: Instant) -> bool {
        self.fill(per_second_max, now);
        self.left[self.fuller()] >= UNIT
    }

    /// Something has begun, whosever it is.
    pub(super) fn spend(&mut self) {
        let half = self.fuller();
        self.left[half] = self.left[half].saturating_sub(UNIT);
    }

    /// The half of which more is left.
    fn fuller(&self) -> usize {
        usize::from(self.left[1] > self.left[0])
    }

    fn forget_old(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.turned);
        if age >= self.span {
            let last = std::mem::take(&mut self.begun[0]);
            self.begun[1] = if age < 2 * self.span { last } else { HashMap::default() };
            self.turned = now;
        }
    }

    fn fill(&mut self, per_second_max: u64, now: Instant) {
        let elapsed_us = now.saturating_duration_since(self.filled).as_micros().min(1 << 26) as u64;
        let (more, half_max) = (elapsed_us * per_second_max, self.half_max(per_second_max));
        let filled = self.left.map(|left| left.saturating_add(more / 2));
        // What one half has no room for, the other has.
        let over = filled.map(|left| left.saturating_sub(half_max).min(more / 2));
        self.left =
            [filled[0].saturating_add(over[1]), filled[1].saturating_add(over[0])].map(|left| left.min(half_max));
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::shard::door::prefixes::Prefixes;

    const SECOND: Duration = Duration::from_secs(1);

    struct Begins {
        prefixes: Prefixes,
        pace: Pace,
        now: Instant,
    }

    impl Begins {
        fn new() -> Self {
            let now = Instant::now();
            Self { prefixes: Prefixes::default(), pace: Pace::new(HANDSHAKES_SPAN, 1, now), now }
        }

        /// How many of so many handshakes may begin now, at a hundred a second.
        fn of(&mut self, handshakes: usize, address: &str) -> usize {
            let network = self.prefixes.network(address.parse().expect("an address"));
            (0..handshakes).filter(|_| self.pace.begin(&network, 100, self.now)).count()
        }
    }

    //
    #[test]
    fn one_network_alone_has_the_whole_pace_and_no_more() {
        let mut begins = Begins::new();
        begins.of(1000, "192.0.2.1");
        let mut begun = 0;
        for _ in 0..100 {
            begins.now += SECOND / 10;
            begun += begins.of(1000, "192.0.2.1");
        }
        assert_eq!(begun, 1000, "a hundred a second for ten seconds");
    }

    //
    #[test]
    fn what_others_have_begun_keeps_nobody_out_who_has_begun_nothing() {
        let mut begins = Begins::new();
        assert!(begins.of(1000, "192.0.2.1") <= 50, "half is left for others");
        assert_eq!(begins.of(1, "198.51.100.1"), 1);
        assert!(begins.of(1000, "2001:db8::1") <= 40);
        assert_eq!(begins.of(1, "2001:db8:0:100::1"), 1, "a neighbour");
        // Those that flood from many networks have begun one each.
        for number in 0..1000 {
            begins.of(1, &format!("10.0.{}.{}", number / 256, number % 256));
        }
        begins.now += SECOND / 50;
        assert_eq!(begins.of(1, "10.0.0.1"), 0);
        assert_eq!(begins.of(1, "203.0.113.1"), 1, "the newcomer before all of them");
    }

    //
    #[test]
    fn those_who_come_again_and_those_who_do_not_have_half_each_and_what_the_others_leave() {
        let Begins { prefixes, mut pace, now } = Begins::new();
        let mut number = 0;
        let mut begin = |again, at| {
            let begun = (0..1000).filter(|_| {
                number += 1;
                let network = prefixes.network(IpAddr::from((0x0a00_0000u32 + number).to_be_bytes()));
                pace.begin_in_turn(again, &network, 100, at)
            });
            begun.count()
        };
        assert_eq!([false, true].map(|again| begin(again, now)), [50; 2]);
        // Half fills within a second, and then all of it goes to those who want it.
        for (again, seconds) in [(false, 1), (true, 4)] {
            let begun: usize = (0..10).map(|tenth| begin(again, now + seconds * SECOND + tenth * SECOND / 10)).sum();
            assert!((98..=152).contains(&begun), "{begun}");
        }
    }

    #[test]
    fn what_was_begun_is_forgotten() {
        let mut begins = Begins::new();
        begins.of(60, "192.0.2.1");
        begins.now += 2 * HANDSHAKES_SPAN;
        begins.of(1, "198.51.100.1");
        assert_eq!(begins.pace.begun.iter().map(HashMap::len).sum::<usize>(), 3);
    }
}
