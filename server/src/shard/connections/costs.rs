//! What clients' packets cost.
//!
//! There are packets that take QUIC fifty times what an honest one does: a full one of PADDING, which it reads byte by
//! byte, or one that acknowledges a few hundred ranges. Nobody can name them all, so the clock does. As long as packets
//! are quick it is read once for some of them; once they are slow it is read before and after each, so that the slowness
//! has an owner, who is served a few packets a turn from then on.

use std::time::{Duration, Instant};

/// Packets after which the clock is read. Default 16: a nanosecond or two for each, and three milliseconds of the slowest
/// before they are noticed.
const PACKETS_A_LOOK: u32 = 16;
/// Time for each of those, above which the clock is read for every packet. Default 20 us: an honest packet takes two, and ten
/// when memory is cold.
const SLOW: Duration = Duration::from_micros(20);
/// For how long, after somebody was costly for the last time. Default 1 s: a flood that pauses is noticed anew within three
/// milliseconds, which are not much of a second.
const EACH_FOR: Duration = Duration::from_secs(1);
/// Nanoseconds for a packet, on a client's average, above which it is costly. Default 50,000: ten times what honest packets
/// take, and half of what a packet full of padding does.
const COSTLY_NS: u32 = 50_000;
/// The most nanoseconds that one packet counts. Default 200,000: what takes longer was interrupted, or is a newcomer's first;
/// neither makes anybody costly.
const SAMPLE_NS_MAX: u128 = 200_000;
/// Packets over which a client's average goes. Default 8: one interrupted packet stays below the bound, and eight costly ones
/// are above it.
const PACKETS_A_MEAN: u32 = 8;

/// Nanoseconds that a client's packets take on the average, while the clock is read for each.
#[derive(Debug, Default)]
pub(super) struct Cost(u32);

impl Cost {
    pub(super) fn is_costly(&self) -> bool {
        self.0 > COSTLY_NS
    }

    fn charge(&mut self, took: Duration) {
        let sample = took.as_nanos().min(SAMPLE_NS_MAX) as u32;
        self.0 = (self.0 * (PACKETS_A_MEAN - 1) + sample) / PACKETS_A_MEAN;
    }
}

/// When the clock is read.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    /// Packets of this turn.
    packets: u32,
    /// When the clock was read for some of them last.
    read_at: Option<Instant>,
    /// Until when it is read for each.
    each_until: Option<Instant>,
}

impl Stopwatch {
    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        (self.packets, self.read_at) = (0, None);
        self.each_until = self.each_until.filter(|until| *until > now);
    }

    /// Whether the clock is read for each packet, so that whoever is costly is held back.
    pub(super) fn reads_each(&self) -> bool {
        self.each_until.is_some()
    }

    /// A packet comes: what the time is, if it is read for each.
    pub(super) fn start(&self, clock: impl Fn() -> Instant) -> Option<Instant> {
        self.reads_each().then(clock)
    }

    /// It is done with, by the client whose cost this is.
    pub(super) fn stop(&mut self, started: Option<Instant>, cost: &mut Cost, clock: impl Fn() -> Instant) {
        if let Some(started) = started {
            let now = clock();
            cost.charge(now.saturating_duration_since(started));
            if cost.is_costly() {
                self.each_until = Some(now + EACH_FOR);
            }
            return;
        }
        self.packets += 1;
        if self.packets.is_multiple_of(PACKETS_A_LOOK) {
            let now = clock();
            // The first time there is nothing to compare with: packets were taken from the kernel before.
            let before = self.read_at.replace(now);
            if before.is_some_and(|before| now.saturating_duration_since(before) > SLOW * PACKETS_A_LOOK) {
                self.each_until = Some(now + EACH_FOR);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const QUICK: Duration = Duration::from_micros(3);
    const PADDED: Duration = Duration::from_micros(90);

    /// A clock that says how often it was read.
    struct Clock(Cell<Instant>, Cell<u32>);

    impl Clock {
        fn read(&self) -> Instant {
            self.1.set(self.1.get() + 1);
            self.0.get()
        }

        fn pass(&self, time: Duration) {
            self.0.set(self.0.get() + time);
        }

        /// So many packets of one client, each taking so long; how often the clock was read.
        fn packets(&self, watch: &mut Stopwatch, cost: &mut Cost, count: u32, took: Duration) -> u32 {
            self.1.set(0);
            for _ in 0..count {
                let started = watch.start(|| self.read());
                self.pass(took);
                watch.stop(started, cost, || self.read());
            }
            self.1.get()
        }
    }

    fn begin() -> (Clock, Stopwatch) {
        (Clock(Cell::new(Instant::now()), Cell::new(0)), Stopwatch::default())
    }

    //
    #[test]
    fn the_clock_is_read_seldom_until_packets_are_slow() {
        let ((clock, mut watch), mut cost) = (begin(), Cost::default());
        assert_eq!(clock.packets(&mut watch, &mut cost, 640, QUICK), 40);
        assert!(!watch.reads_each() && !cost.is_costly());
        // A second look at the latest, and then eight of its own.
        clock.packets(&mut watch, &mut cost, 2 * PACKETS_A_LOOK, PADDED);
        assert!(watch.reads_each());
        clock.packets(&mut watch, &mut cost, PACKETS_A_MEAN, PADDED);
        assert!(cost.is_costly());
    }

    //
    #[test]
    fn it_is_read_seldom_again_once_nobody_is_costly() {
        let ((clock, mut watch), mut slow, mut honest) = (begin(), Cost::default(), Cost::default());
        clock.packets(&mut watch, &mut slow, 3 * PACKETS_A_LOOK, PADDED);
        for _ in 0..5 {
            clock.pass(EACH_FOR / 2);
            watch.begin_turn(clock.read());
            clock.packets(&mut watch, &mut slow, 4, PADDED);
            clock.packets(&mut watch, &mut honest, 100, QUICK);
        }
        assert!(watch.reads_each() && slow.is_costly() && !honest.is_costly());
        clock.pass(EACH_FOR);
        watch.begin_turn(clock.read());
        assert!(!watch.reads_each());
    }

    #[test]
    fn a_packet_that_was_interrupted_makes_nobody_costly() {
        let mut cost = Cost::default();
        for _ in 0..100 {
            cost.charge(Duration::from_secs(1));
            assert!(!cost.is_costly());
            (0..PACKETS_A_MEAN).for_each(|_| cost.charge(QUICK));
        }
        // And who was costly is no more after a few packets like those of others.
        (0..100).for_each(|_| cost.charge(PADDED));
        assert!(cost.is_costly());
        (0..PACKETS_A_MEAN).for_each(|_| cost.charge(QUICK));
        assert!(!cost.is_costly());
    }
}
