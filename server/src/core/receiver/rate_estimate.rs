//! How wide a receiver's path is, from what it acknowledges and how its round-trip time grows.
//!
//! The congestion window says what may be in flight, not what the path takes: window divided by round-trip time
//! overstates a path whose buffer is full, and understates one that is merely not used. What arrived in a measured time
//! is a fact. While the path held data back, it is what the path takes; while there was nothing more to send, the path
//! takes at least that much.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Between two samples at least: one or two packets of a slow path.
pub const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// Time over which arrivals are added up: one lost acknowledgement does not show.
const SPAN: Duration = Duration::from_millis(500);
/// The least round-trip time of so long is what the path takes when its buffers are empty. Longer than any trouble that
/// the ladder leaves standing, short enough to follow a client that moves.
const BASE_SPAN: Duration = Duration::from_secs(30);
/// A round-trip time that grew by more than this means that a buffer on the way fills.
pub const GROWTH_FULL: Duration = Duration::from_millis(60);
/// So long after a path held something back the estimate is a bound.
const BOUND_SPAN: Duration = Duration::from_secs(2);
/// So long after it, twice the estimate may be tried; then nothing is known against more.
const TRIED_SPAN: Duration = Duration::from_secs(30);

/// What a connection has measured.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Bytes acknowledged since the connection began.
    pub acked_bytes: u64,
    /// Round-trip time now.
    pub rtt: Duration,
    /// Whether more was to be sent than could be.
    pub held_back: bool,
}

/// The estimate for one path.
#[derive(Debug, Clone, Default)]
pub struct RateEstimate {
    recent: VecDeque<Sample>,
    /// Least round-trip times of the current half of [`BASE_SPAN`] and the one before it.
    base: [Option<Duration>; 2],
    base_since: Option<Instant>,
    growth: Duration,
    arrived: u64,
    bits_per_second: u64,
    held_back_at: Option<Instant>,
    bound: u64,
}

impl RateEstimate {
    /// What the path takes in bits a second, zero while nothing is known. A lower bound until the path has held
    /// something back.
    pub fn bits_per_second(&self) -> u64 {
        self.bits_per_second
    }

    /// What there is no point in exceeding, in bits a second; zero while nothing is known against more.
    ///
    /// An encoder that obeyed the estimate alone would stay at what a squeeze left it, because a path that is not used to
    /// the full shows no more than goes through. So a path that is calm again is worth twice as much.
    pub fn bound_bits_per_second(&self) -> u64 {
        self.bound
    }

    /// What arrived lately, in bits a second.
    pub fn arrived_bits_per_second(&self) -> u64 {
        self.arrived
    }

    /// By how much the round-trip time is above the least one of late: how long the buffers on the way hold a packet.
    pub fn growth(&self) -> Duration {
        self.growth
    }

    /// Takes a sample.
    pub fn observe(&mut self, sample: Sample) {
        self.observe_rtt(&sample);
        while self.recent.get(1).is_some_and(|next| sample.at.saturating_duration_since(next.at) >= SPAN) {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
        let Some(first) = self.recent.front().filter(|first| first.at < sample.at) else { return };
        let elapsed = sample.at.saturating_duration_since(first.at).max(SAMPLE_INTERVAL);
        let bytes = sample.acked_bytes.saturating_sub(first.acked_bytes);
        self.arrived = (bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64;
        let full = self.growth > GROWTH_FULL
            || self.recent.iter().rev().take(4).filter(|sample| sample.held_back).count() >= 2;
        self.bits_per_second = if full {
            // The newest interval counts as much as all before it: a squeeze must show within half a second.
            let newest = self.newest().unwrap_or(self.arrived).min(self.arrived.max(1));
            if self.bits_per_second == 0 { newest } else { (self.bits_per_second + newest) / 2 }
        } else {
            self.bits_per_second.max(self.arrived)
        };
        if full {
            self.held_back_at = Some(sample.at);
        }
        let calm = self.held_back_at.map_or(Duration::MAX, |at| sample.at.saturating_duration_since(at));
        self.bound = match calm {
            calm if calm < BOUND_SPAN => self.bits_per_second,
            calm if calm < TRIED_SPAN => self.bits_per_second.saturating_mul(2),
            _ => 0,
        };
    }

    /// What arrived within the last few samples.
    fn newest(&self) -> Option<u64> {
        let (last, before) = (self.recent.back()?, self.recent.get(self.recent.len().checked_sub(4)?)?);
        let elapsed = last.at.saturating_duration_since(before.at).as_secs_f64();
        let bytes = last.acked_bytes.saturating_sub(before.acked_bytes);
        (elapsed > 0.0).then(|| (bytes as f64 * 8.0 / elapsed) as u64)
    }

    fn observe_rtt(&mut self, sample: &Sample) {
        let since = *self.base_since.get_or_insert(sample.at);
        if sample.at.saturating_duration_since(since) >= BASE_SPAN / 2 {
            self.base = [None, self.base[0]];
            self.base_since = Some(sample.at);
        }
        self.base[0] = Some(self.base[0].map_or(sample.rtt, |least| least.min(sample.rtt)));
        let base = self.base.iter().flatten().min().copied().unwrap_or(sample.rtt);
        self.growth = sample.rtt.saturating_sub(base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A link with a buffer, fed at a rate: what a receiver's acknowledgements say of it every 100 ms.
    struct Link {
        at: Instant,
        acked_bits: f64,
        buffered_bits: f64,
        estimate: RateEstimate,
    }

    impl Link {
        fn new() -> Self {
            Self { at: Instant::now(), acked_bits: 0.0, buffered_bits: 0.0, estimate: RateEstimate::default() }
        }

        /// Sends at `rate` over a link of `capacity`, both in bits a second.
        fn run(&mut self, rate: f64, capacity: f64, duration: Duration) -> u64 {
            for _ in 0..duration.as_millis() / 100 {
                self.at += 100 * MS;
                let through = (self.buffered_bits + rate * 0.1).min(capacity * 0.1);
                self.buffered_bits += rate * 0.1 - through;
                self.acked_bits += through;
                let queue = Duration::from_secs_f64(self.buffered_bits / capacity);
                self.estimate.observe(Sample {
                    at: self.at,
                    acked_bytes: self.acked_bits as u64 / 8,
                    rtt: 40 * MS + queue,
                    held_back: false,
                });
            }
            self.estimate.bits_per_second()
        }
    }

    fn is_near(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) * 10 <= expected
    }

    //
    #[test]
    fn a_path_that_is_not_used_is_known_to_take_what_it_took() {
        let mut link = Link::new();
        let known = link.run(1_000_000.0, 4_000_000.0, 3000 * MS);
        assert!(is_near(known, 1_000_000), "{known}");
        let quiet = link.run(64_000.0, 4_000_000.0, 10_000 * MS);
        assert_eq!(quiet, known, "silence says nothing against it");
        assert!(is_near(link.estimate.arrived_bits_per_second(), 64_000));
        assert_eq!(link.estimate.growth(), Duration::ZERO);
    }

    //
    #[test]
    fn a_squeeze_shows_within_half_a_second() {
        let mut link = Link::new();
        link.run(1_500_000.0, 4_000_000.0, 3000 * MS);
        let squeezed = link.run(1_500_000.0, 300_000.0, 500 * MS);
        assert!(squeezed < 600_000, "{squeezed}");
        assert!(link.estimate.growth() > GROWTH_FULL);
        let settled = link.run(1_500_000.0, 300_000.0, 1000 * MS);
        assert!(is_near(settled, 300_000), "{settled}");
    }

    //
    #[test]
    fn a_path_that_widens_shows_as_soon_as_more_goes_through() {
        let mut link = Link::new();
        link.run(1_500_000.0, 300_000.0, 3000 * MS);
        // The buffer drains at the lower rate, then more is tried.
        link.run(64_000.0, 300_000.0, 20_000 * MS);
        assert_eq!(link.estimate.growth(), Duration::ZERO);
        assert!(link.estimate.bits_per_second() <= 330_000);
        let wider = link.run(1_500_000.0, 4_000_000.0, 1000 * MS);
        assert!(is_near(wider, 1_500_000), "{wider}");
    }

    //
    #[test]
    fn an_encoder_that_obeys_the_bound_comes_back_from_a_squeeze() {
        let mut link = Link::new();
        link.run(1_500_000.0, 4_000_000.0, 3000 * MS);
        assert_eq!(link.estimate.bound_bits_per_second(), 0, "nothing is known against more");
        let obey = |link: &mut Link, capacity: f64| {
            let bound = link.estimate.bound_bits_per_second();
            let rate = if bound == 0 { 1_500_000.0 } else { f64::min(bound as f64, 1_500_000.0) };
            link.run(rate, capacity, 1000 * MS);
            rate
        };
        let squeezed: Vec<f64> = (0..6).map(|_| obey(&mut link, 300_000.0)).collect();
        assert!(squeezed[1..].iter().all(|rate| *rate < 700_000.0), "{squeezed:?}");
        assert!(squeezed.iter().any(|rate| is_near(*rate as u64, 300_000)), "{squeezed:?}");
        let widened: Vec<f64> = (0..10).map(|_| obey(&mut link, 4_000_000.0)).collect();
        assert!(widened[9] >= 1_500_000.0, "{widened:?}");
        link.run(1_500_000.0, 4_000_000.0, 30_000 * MS);
        assert_eq!(link.estimate.bound_bits_per_second(), 0, "{widened:?}");
    }

    #[test]
    fn what_waits_for_the_congestion_window_counts_although_the_round_trip_time_is_short() {
        let (mut estimate, start) = (RateEstimate::default(), Instant::now());
        for tick in 0..20u32 {
            let acked_bytes = u64::from(tick) * 2_500;
            estimate.observe(Sample { at: start + tick * 100 * MS, acked_bytes, rtt: 5 * MS, held_back: true });
        }
        assert!(is_near(estimate.bits_per_second(), 200_000));
    }

    #[test]
    fn a_path_that_got_longer_is_not_taken_for_a_full_one_for_ever() {
        let (mut estimate, start) = (RateEstimate::default(), Instant::now());
        for tick in 0..800u32 {
            let rtt = if tick < 100 { 20 * MS } else { 180 * MS };
            estimate.observe(Sample { at: start + tick * 100 * MS, acked_bytes: 0, rtt, held_back: false });
            if tick == 110 {
                assert_eq!(estimate.growth(), 160 * MS);
            }
        }
        assert_eq!(estimate.growth(), Duration::ZERO);
    }
}
