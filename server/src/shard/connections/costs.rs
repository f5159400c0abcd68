//! What clients' packets cost.
//!
//! There are packets that take QUIC five to fifty times what an honest one does: a full one of PADDING, which it reads byte
//! by byte, or one that acknowledges a few hundred ranges. Nobody can name them all, so the clock does. As long as packets
//! are quick it is read once for some of them; once they are slow it is read before and after each, so that the slowness
//! has an owner. All who are slow then share a part of the shard's time, and what does not fit is dropped, as on a narrow
//! path. Somebody who was taken for one of them, but is not, loses nothing as long as they are few.

use std::time::{Duration, Instant};

/// Packets after which the clock is read. Default 16: a nanosecond or two for each, and three milliseconds of the slowest
/// before they are noticed.
const PACKETS_A_LOOK: u32 = 16;
/// For how long, after somebody was costly for the last time. Default 1 s: a flood that pauses is noticed anew within three
/// milliseconds, which are not much of a second.
const EACH_FOR: Duration = Duration::from_secs(1);
/// Time for a packet, on a client's average, above which it is costly, beside [`SEALED_ALONE`]. Default 5 us: twice what honest
/// packets take where their connection is in the caches, and half of what one full of padding takes where that is read fastest
/// (7 ns a byte; elsewhere 60 were seen).
const COSTLY: Duration = Duration::from_micros(5);
/// The part of its time that a shard has for packets of those who are costly: a quarter.
const PART: u32 = 4;
/// What of that may be saved up: 1 ms, and what is kept for those who have few packets. Nobody waits longer for all these.
const SAVED_MAX: Duration = Duration::from_millis(1).saturating_add(KEPT);
/// Default 8 ms: five packets of fifty clients, all at once.
const KEPT: Duration = Duration::from_millis(8);
/// Packets that this machine could seal in the time that is added to that. Default 8: where sealing is slow all else is as
/// well, and an honest packet that takes longer than this here must not count as costly there.
const SEALED_ALONE: u32 = 8;
/// How many times longer everything takes in a relay that is not optimised.
const UNOPTIMISED: u32 = if cfg!(debug_assertions) { 5 } else { 1 };
/// A packet counts at most so many times as much as would make it costly. Default 4: what takes longer was interrupted, or is
/// the one of a handshake that has all its work; one alone must not make anybody costly.
const SAMPLE_MAX: u32 = 4;
/// A window, and the packets of one who is costly in it that are few. Default 5 in 50 ms: a call has as many, and the packets
/// of one that rests between them may well take long, as nothing of it is in the processor's caches.
const WINDOW: Duration = Duration::from_millis(50);
const FEW: u8 = 5;
/// Packets over which a client's average goes. Default 8: one interrupted packet stays below the bound, and eight costly ones
/// are above it.
const PACKETS_A_MEAN: u64 = 8;

/// What a client's packets cost, while the clock is read for each.
#[derive(Debug, Default)]
pub(super) struct Cost {
    /// Nanoseconds on the average.
    mean_ns: u32,
    /// The window in which it was costly last, and how many packets it had then.
    window: u32,
    packets: u8,
}

/// When the clock is read.
#[derive(Debug)]
pub(super) struct Stopwatch {
    /// Time for one packet above which whoever sends such is costly; half of that on the average of all is slow.
    costly: Duration,
    /// Packets of this turn.
    packets: u32,
    /// When the clock was read for some of them last.
    read_at: Option<Instant>,
    /// Until when it is read for each.
    each_until: Option<Instant>,
    /// What is left for those who are costly, and when it was filled up last.
    left: Duration,
    filled_at: Option<Instant>,
    window: u32,
    window_until: Option<Instant>,
}

impl Stopwatch {
    /// For a machine that seals a packet in this time.
    pub(super) fn new(sealing: Duration) -> Self {
        let costly = (COSTLY + sealing * SEALED_ALONE) * UNOPTIMISED;
        Self {
            costly,
            packets: 0,
            read_at: None,
            each_until: None,
            left: SAVED_MAX,
            filled_at: None,
            window: 0,
            window_until: None,
        }
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        (self.packets, self.read_at) = (0, None);
        self.each_until = self.each_until.filter(|until| *until > now);
        let passed = self.filled_at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.left = (self.left + passed / PART).min(SAVED_MAX);
        if self.window_until.is_none_or(|until| until <= now) {
            self.window = self.window.wrapping_add(1);
            self.window_until = Some(now + WINDOW);
        }
    }

    /// Whether the clock is read for each packet.
    fn reads_each(&self) -> bool {
        self.each_until.is_some()
    }

    /// Whether a packet of whoever has this cost does not fit any more.
    pub(super) fn holds_back(&self, cost: &Cost) -> bool {
        if !self.reads_each() || !self.is_costly(cost) {
            return false;
        }
        let has_few = cost.window != self.window || cost.packets < FEW;
        self.left <= if has_few { Duration::ZERO } else { KEPT }
    }

    fn is_costly(&self, cost: &Cost) -> bool {
        Duration::from_nanos(cost.mean_ns.into()) > self.costly
    }

    fn charge(&mut self, cost: &mut Cost, took: Duration) {
        let sample = took.min(self.costly * SAMPLE_MAX).as_nanos() as u64;
        cost.mean_ns = ((u64::from(cost.mean_ns) * (PACKETS_A_MEAN - 1) + sample) / PACKETS_A_MEAN) as u32;
        if self.is_costly(cost) {
            self.left = self.left.saturating_sub(took);
            if cost.window != self.window {
                (cost.window, cost.packets) = (self.window, 0);
            }
            cost.packets = cost.packets.saturating_add(1);
        }
    }

    /// A packet comes: what the time is, if it is read for each.
    pub(super) fn start(&self, clock: impl Fn() -> Instant) -> Option<Instant> {
        self.reads_each().then(clock)
    }

    /// It is done with, by the client whose cost this is.
    pub(super) fn stop(&mut self, started: Option<Instant>, cost: &mut Cost, clock: impl Fn() -> Instant) {
        if let Some(started) = started {
            let now = clock();
            let took = now.saturating_duration_since(started);
            self.charge(cost, took);
            if self.is_costly(cost) {
                self.each_until = Some(now + EACH_FOR);
            }
            return;
        }
        self.packets += 1;
        if self.packets.is_multiple_of(PACKETS_A_LOOK) {
            let now = clock();
            // The first time there is nothing to compare with: packets were taken from the kernel before.
            let before = self.read_at.replace(now);
            if before.is_some_and(|before| now.saturating_duration_since(before) > self.costly * PACKETS_A_LOOK / 2) {
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
    const PADDED: Duration = Duration::from_micros(50 * UNOPTIMISED as u64);
    const MEAN: u32 = PACKETS_A_MEAN as u32;

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
        (Clock(Cell::new(Instant::now()), Cell::new(0)), Stopwatch::new(Duration::from_nanos(400)))
    }

    //
    #[test]
    fn the_clock_is_read_seldom_until_packets_are_slow() {
        let ((clock, mut watch), mut cost) = (begin(), Cost::default());
        assert_eq!(clock.packets(&mut watch, &mut cost, 640, QUICK), 40);
        assert!(!watch.reads_each() && !watch.is_costly(&cost));
        // A second look at the latest, and then eight of its own.
        clock.packets(&mut watch, &mut cost, 2 * PACKETS_A_LOOK, PADDED);
        assert!(watch.reads_each());
        clock.packets(&mut watch, &mut cost, MEAN, PADDED);
        assert!(watch.reads_each() && watch.is_costly(&cost));
    }

    //
    #[test]
    fn it_is_read_seldom_again_once_nobody_is_costly() {
        let ((clock, mut watch), mut slow, mut honest) = (begin(), Cost::default(), Cost::default());
        clock.packets(&mut watch, &mut slow, 3 * PACKETS_A_LOOK, PADDED);
        for _ in 0..5 {
            clock.pass(EACH_FOR / 2);
            watch.begin_turn(clock.read());
            clock.packets(&mut watch, &mut slow, 100, PADDED);
            clock.packets(&mut watch, &mut honest, 100, QUICK);
        }
        assert!(watch.holds_back(&slow) && !watch.holds_back(&honest));
        clock.pass(EACH_FOR);
        watch.begin_turn(clock.read());
        assert!(!watch.reads_each() && !watch.holds_back(&slow));
    }

    //
    #[test]
    fn those_who_are_costly_have_a_quarter_of_the_time_and_the_others_the_rest() {
        let ((clock, mut watch), mut slow, mut honest) = (begin(), Cost::default(), Cost::default());
        clock.packets(&mut watch, &mut slow, 3 * PACKETS_A_LOOK, PADDED);
        let (begun, mut served, mut cold) = (clock.read(), Duration::ZERO, Cost::default());
        for turn in 0..200 {
            watch.begin_turn(clock.read());
            // Somebody whose few packets take long as well, for another reason.
            assert!(!watch.holds_back(&cold));
            clock.packets(&mut watch, &mut cold, u32::from(turn % 20 == 0), PADDED / 3);
            for _ in 0..20 {
                if !watch.holds_back(&slow) {
                    clock.packets(&mut watch, &mut slow, 1, PADDED);
                    served += PADDED;
                }
                assert!(!watch.holds_back(&honest));
                clock.packets(&mut watch, &mut honest, 10, QUICK);
            }
        }
        let part = served.as_secs_f64() / (clock.read() - begun).as_secs_f64();
        assert!((0.2..0.3).contains(&part), "{part}");
    }

    #[test]
    fn a_packet_that_was_interrupted_makes_nobody_costly() {
        let ((_, mut watch), mut cost) = (begin(), Cost::default());
        for _ in 0..100 {
            watch.charge(&mut cost, Duration::from_secs(1));
            assert!(!watch.is_costly(&cost));
            (0..MEAN).for_each(|_| watch.charge(&mut cost, QUICK));
        }
        // And who was costly is no more after a few packets like those of others.
        (0..100).for_each(|_| watch.charge(&mut cost, PADDED));
        assert!(watch.is_costly(&cost));
        (0..2 * MEAN).for_each(|_| watch.charge(&mut cost, QUICK));
        assert!(!watch.is_costly(&cost));
    }

    #[test]
    fn where_sealing_takes_long_so_may_packets() {
        let (mut slow, mut cost) = (Stopwatch::new(Duration::from_micros(16)), Cost::default());
        (0..100).for_each(|_| slow.charge(&mut cost, PADDED));
        assert!(!slow.is_costly(&cost) && begin().1.is_costly(&cost));
    }
}
