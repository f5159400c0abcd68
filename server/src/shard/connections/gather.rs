//! How long audio may gather for one receiver, so that several senders' objects share a packet.
//!
//! A packet costs the relay and the receiver's radio more than the bytes in it. Where several people speak at once, the
//! next object is never far: waiting for it within a stated budget saves packets. Where objects are rare, waiting would
//! only cost time: then nothing waits.

use std::time::{Duration, Instant};

/// Objects that must be expected within the budget for the wait to be worth it.
const EXPECTED_MIN: f32 = 1.0;
/// Bytes that fill a packet: no reason to wait for more.
const PACKET_BYTES: usize = 1_000;
/// Time over which the rate of objects is averaged.
const AVERAGE: Duration = Duration::from_millis(200);

/// One connection's audio on its way into a packet.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// When the first of what has gathered came to the relay: what it waited before its turn counts.
    first: Option<Instant>,
    objects: u32,
    bytes: usize,
    counted: Option<Instant>,
    /// Objects a second.
    rate: f32,
}

impl Gather {
    /// An object was handed over that came to the relay then.
    pub(super) fn add(&mut self, bytes: usize, arrived: Instant) {
        self.first = Some(self.first.map_or(arrived, |first| first.min(arrived)));
        self.objects += 1;
        self.bytes += bytes;
    }

    /// Until when packets may wait for more, if that is worth it; `None` when they must be built now.
    pub(super) fn wait(&self, budget: Duration, now: Instant) -> Option<Instant> {
        let expected = self.rate * budget.as_secs_f32();
        if expected < EXPECTED_MIN || self.bytes >= PACKET_BYTES || self.objects == 0 {
            return None;
        }
        self.first.map(|first| first + budget).filter(|due| *due > now)
    }

    /// Packets were built.
    pub(super) fn sent(&mut self, now: Instant) {
        let elapsed = self.counted.map_or(AVERAGE, |counted| now.saturating_duration_since(counted));
        // Many packets may be built within one turn: they are averaged over the time between turns.
        if elapsed > Duration::ZERO {
            let weight = 1.0 - (-elapsed.as_secs_f32() / AVERAGE.as_secs_f32()).exp();
            self.rate += weight * (self.objects as f32 / elapsed.as_secs_f32() - self.rate);
            (self.counted, self.objects) = (Some(now), 0);
        }
        (self.first, self.bytes) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(2);

    /// Objects of 150 bytes at a rate for a second, each looked at at once; returns how many packets they took and the
    /// longest time that one waited.
    fn packets(per_second: u32, budget: Duration) -> (u32, Duration) {
        let (mut gather, start) = (Gather::default(), Instant::now());
        let (mut packets, mut longest, mut first) = (0, Duration::ZERO, None);
        for tick in 0..10_000u32 {
            let now = start + tick * Duration::from_micros(100);
            if tick % (10_000 / per_second) == 0 {
                gather.add(150, now);
                first = first.or(Some(now));
            }
            if first.is_some() && gather.wait(budget, now).is_none() {
                packets += 1;
                longest = longest.max(now - first.take().unwrap_or(now));
                gather.sent(now);
            }
        }
        (packets, longest)
    }

    //
    #[test]
    fn one_who_speaks_alone_waits_for_nobody() {
        assert_eq!(packets(50, BUDGET), (50, Duration::ZERO));
    }

    //
    #[test]
    fn a_room_that_talks_shares_packets_within_the_budget() {
        let (packets, longest) = packets(1000, BUDGET);
        assert!(packets < 600, "{packets} packets for 1,000 objects");
        assert_eq!(longest, BUDGET);
    }

    //
    #[test]
    fn the_budget_counts_from_when_an_object_came() {
        let (mut gather, mut now) = (Gather::default(), Instant::now());
        for _ in 0..1000 {
            now += Duration::from_millis(1);
            gather.add(150, now);
            gather.sent(now);
        }
        gather.add(150, now - BUDGET * 3 / 4);
        gather.add(150, now);
        assert_eq!(gather.wait(BUDGET, now), Some(now + BUDGET / 4));
        gather.sent(now);
        gather.add(150, now - BUDGET);
        assert_eq!(gather.wait(BUDGET, now), None, "it has waited elsewhere");
    }

    #[test]
    fn a_full_packet_goes_at_once() {
        let (packets, longest) = packets(10_000, BUDGET);
        assert!(packets > 1000 && longest < BUDGET, "{packets} packets, {longest:?}");
    }

    #[test]
    fn without_a_budget_nothing_waits() {
        assert_eq!(packets(1000, Duration::ZERO), (1000, Duration::ZERO));
    }
}
