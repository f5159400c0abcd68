//! How a shard's turns went: how much came and left in each, how long it took, how late it was.

use std::time::{Duration, Instant};

use super::counters::Tally;
use crate::{
    core::{Holdings, histogram::Histogram},
    shard::NodeFigures,
};

/// One shard's distributions, kept by its thread alone.
#[derive(Debug, Clone, Default)]
pub struct Distributions {
    /// Datagrams received in a turn that received any.
    pub datagrams_in: Histogram,
    /// Datagrams handed to the kernel in a turn that sent any.
    pub datagrams_out: Histogram,
    /// Microseconds that a turn took. What comes in meanwhile waits for its end.
    pub turn_us: Histogram,
    /// Microseconds by which a deadline was missed: the loop's lag, the batching window included.
    pub late_us: Histogram,
    /// Microseconds of round-trip time: each session is sampled at most once a second.
    pub rtt_us: Histogram,
    /// Estimates of what clients' paths take, in kbit/s, sampled likewise; those that are not known are left out.
    pub path_kbits: Histogram,
    /// Time spent in turns since the start: what is left of a second is the shard's reserve.
    pub busy: Duration,
    /// What its sessions held at the last census.
    pub holdings: Holdings,
    /// What was counted of its links to other nodes, if it is one.
    pub nodes: Option<NodeFigures>,
    longest_wait: Duration,
}

/// What is remembered of a turn's beginning.
pub(crate) struct TurnStart {
    at: Instant,
    datagrams_in: u64,
    datagrams_out: u64,
    /// When the shard had wanted to be awake at the latest.
    deadline: Option<Instant>,
}

impl TurnStart {
    /// A turn begins `at` this time.
    pub(crate) fn new(tally: &Tally, at: Instant, deadline: Option<Instant>) -> Self {
        Self { at, datagrams_in: tally.datagrams_in, datagrams_out: tally.datagrams_out, deadline }
    }
}

impl Distributions {
    /// A turn has ended.
    pub(crate) fn turn(&mut self, start: &TurnStart, tally: &Tally, ended: Instant) {
        let count = |histogram: &mut Histogram, before: u64, after: u64| {
            if after > before {
                histogram.observe(after - before, 1);
            }
        };
        count(&mut self.datagrams_in, start.datagrams_in, tally.datagrams_in);
        count(&mut self.datagrams_out, start.datagrams_out, tally.datagrams_out);
        let took = ended.saturating_duration_since(start.at);
        self.busy += took;
        self.turn_us.observe(took.as_micros() as u64, 1);
        if let Some(late) = start.deadline.and_then(|deadline| start.at.checked_duration_since(deadline)) {
            self.late_us.observe(late.as_micros() as u64, 1);
        }
    }

    /// The oldest object of some connection has waited so long.
    pub(crate) fn waited(&mut self, oldest: Duration) {
        self.longest_wait = self.longest_wait.max(oldest);
    }

    /// The longest of these waits since the last call.
    pub(crate) fn take_longest_wait(&mut self) -> Duration {
        std::mem::take(&mut self.longest_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_turn_is_counted_by_what_it_moved_and_how_late_it_was() {
        let start = Instant::now();
        let (mut tally, mut distributions) = (Tally::default(), Distributions::default());
        let idle = TurnStart::new(&tally, start, Some(start + MS));
        distributions.turn(&idle, &tally, start + MS);
        let busy = TurnStart::new(&tally, start + 5 * MS, Some(start + 2 * MS));
        tally.datagrams_in += 7;
        tally.datagrams_out += 3;
        distributions.turn(&busy, &tally, start + 6 * MS);
        let seen = |histogram: &Histogram| (histogram.count(), histogram.sum());
        assert_eq!((seen(&distributions.datagrams_in), seen(&distributions.datagrams_out)), ((1, 7), (1, 3)));
        assert_eq!((seen(&distributions.turn_us), seen(&distributions.late_us)), ((2, 2000), (1, 3000)));
        assert_eq!(distributions.busy, 2 * MS);
    }

    #[test]
    fn the_longest_wait_is_told_once() {
        let mut distributions = Distributions::default();
        distributions.waited(3 * MS);
        distributions.waited(MS);
        assert_eq!([distributions.take_longest_wait(), distributions.take_longest_wait()], [3 * MS, Duration::ZERO]);
    }
}
