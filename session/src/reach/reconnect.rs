//! When to connect again, and where.

use std::{ops::RangeInclusive, time::Duration};

use supernode_proto::{control::GoAway, invite::HostPort};

use crate::{Backoff, Moment};

/// How long to wait at least between attempts while the clocks differ: nothing changes before one of them is set.
const CLOCK_WAIT: Duration = Duration::from_secs(30);

/// How patiently a client comes back.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Ceiling of the first wait; it doubles with every failure.
    pub backoff_base: Duration,
    /// Highest ceiling.
    pub backoff_max: Duration,
    /// After this long it gives up.
    pub give_up_after: Duration,
}

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Another attempt would end in the same way.
    Lasting,
    /// It may pass by itself.
    Passing,
    /// By the relay's clock we may not come in, and by ours we may: somebody sets one of them sooner or later.
    Clocks,
}

/// What comes after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt.
    Attempt {
        /// When.
        at: Moment,
        /// Or before, as soon as somebody sets this device's clock.
        or_when_clock_is_set: bool,
        /// Whether people have not heard of this yet.
        is_news: bool,
    },
    /// There is none.
    GiveUp,
}

/// The attempts to get a session, from the first failure to the next success.
#[derive(Debug)]
pub struct Reconnect {
    backoff: Backoff,
    give_up_at: Moment,
    told: bool,
    told_of_clocks: bool,
}

impl Reconnect {
    /// Begins to be patient.
    pub fn new(patience: &Patience, now: Moment) -> Self {
        Self {
            backoff: Backoff::new(patience.backoff_base, patience.backoff_max),
            give_up_at: now + patience.give_up_after,
            told: false,
            told_of_clocks: false,
        }
    }

    /// The connection broke, or an attempt failed. `uniform` picks from the range that it is given.
    pub fn failed(
        &mut self,
        why: Obstacle,
        now: Moment,
        uniform: impl FnOnce(RangeInclusive<Duration>) -> Duration,
    ) -> Next {
        let wait = self.backoff.next_wait(uniform);
        if why == Obstacle::Lasting || now + wait > self.give_up_at {
            return Next::GiveUp;
        }
        let clocks = why == Obstacle::Clocks;
        let is_news = !self.told || clocks && !self.told_of_clocks;
        (self.told, self.told_of_clocks) = (true, self.told_of_clocks || clocks);
        let wait = if clocks { wait.max(CLOCK_WAIT) } else { wait };
        Next::Attempt { at: now + wait, or_when_clock_is_set: clocks, is_news }
    }
}

/// How long the relay that a notice names has for itself: the others are tried after it, not beside it, because all members of a
/// room were told the same one.
pub const NAMED_FOR: Duration = Duration::from_secs(2);

/// Where to go on when a relay ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whither {
    /// To the relay that it has named, for [`NAMED_FOR`].
    Named(HostPort),
    /// Where it is: the process that follows it serves there already.
    Same,
    /// To any other that is known; where it is last, for there may be a process that follows it.
    Elsewhere,
}

/// The next attempt to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How long to wait before it.
    pub wait: Duration,
    /// Where to make it.
    pub whither: Whither,
}

/// The attempts to get a session elsewhere, while the relay that is about to go still serves the one that there is
/// first within the time and at the place that it names, then wherever there may be one, for as long as it takes.
#[derive(Debug)]
pub struct Move {
    window: Option<RangeInclusive<Duration>>,
    named: Option<HostPort>,
    has_successor: bool,
    backoff: Backoff,
}

impl Move {
    /// The relay goes. What it names is its word only: whoever is there is checked as it was.
    pub fn new(notice: &GoAway, patience: &Patience) -> Self {
        let [after, before] =
            [notice.reconnect_after_ms, notice.reconnect_before_ms].map(|ms| Duration::from_millis(ms.into()));
        Self {
            window: Some(after..=before),
            // What is no address names nobody.
            named: notice.alternative.parse().ok(),
            has_successor: notice.successor,
            backoff: Backoff::new(patience.backoff_base, patience.backoff_max),
        }
    }

    /// The next attempt; `uniform` picks from the range that it is given.
    pub fn next_step(&mut self, uniform: impl FnOnce(RangeInclusive<Duration>) -> Duration) -> Step {
        let wait = match self.window.take() {
            Some(window) => uniform(window),
            None => self.backoff.next_wait(uniform),
        };
        let whither = match self.named.take() {
            Some(named) => Whither::Named(named),
            None if self.has_successor => Whither::Same,
            None => Whither::Elsewhere,
        };
        Step { wait, whither }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::at(Duration::from_secs(3600));

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn patience() -> Patience {
        Patience { backoff_base: ms(250), backoff_max: ms(15_000), give_up_after: ms(300_000) }
    }

    /// The latest that each attempt may be.
    fn latest(range: RangeInclusive<Duration>) -> Duration {
        *range.end()
    }

    //
    #[test]
    fn attempts_grow_rare_and_end_and_people_hear_of_the_first_failure_only() {
        let (mut reconnect, mut now, mut waits) = (Reconnect::new(&patience(), NOW), NOW, Vec::new());
        while let Next::Attempt { at, is_news, .. } = reconnect.failed(Obstacle::Passing, now, latest) {
            assert_eq!(is_news, waits.is_empty());
            waits.push(at.since(now));
            now = at;
        }
        assert_eq!(waits[..8], [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000].map(ms));
        assert!((ms(285_000)..=ms(300_000)).contains(&now.since(NOW)), "{:?}", now.since(NOW));
        let lasting = Reconnect::new(&patience(), NOW).failed(Obstacle::Lasting, NOW, latest);
        assert_eq!(lasting, Next::GiveUp);
    }

    #[test]
    fn while_clocks_differ_it_waits_for_somebody_to_set_one_and_says_so_once() {
        let mut reconnect = Reconnect::new(&patience(), NOW);
        reconnect.failed(Obstacle::Passing, NOW, latest);
        for is_news in [true, false] {
            let next = reconnect.failed(Obstacle::Clocks, NOW, latest);
            assert_eq!(next, Next::Attempt { at: NOW + CLOCK_WAIT, or_when_clock_is_set: true, is_news });
        }
    }

    //
    #[test]
    fn a_relay_that_goes_is_left_within_its_window_for_where_it_says_and_then_for_wherever_there_is_one() {
        let notice = |alternative: &str, successor| GoAway {
            reconnect_after_ms: 40,
            reconnect_before_ms: 90,
            alternative: alternative.to_owned(),
            successor,
        };
        let steps = |notice| {
            let mut moving = Move::new(&notice, &patience());
            let first = moving.next_step(|range| {
                assert_eq!(range, ms(40)..=ms(90));
                ms(50)
            });
            assert_eq!(first.wait, ms(50));
            let then = [moving.next_step(latest), moving.next_step(latest)];
            assert_eq!(then.each_ref().map(|step| step.wait), [ms(250), ms(500)]);
            let [second, third] = then.map(|step| step.whither);
            [first.whither, second, third]
        };
        let named = || Whither::Named(HostPort { host: "2001:db8::1".to_owned(), port: 9 });
        assert_eq!(steps(notice("[2001:db8::1]:9", false)), [named(), Whither::Elsewhere, Whither::Elsewhere]);
        assert_eq!(steps(notice("[2001:db8::1]:9", true)), [named(), Whither::Same, Whither::Same]);
        assert_eq!(steps(notice("", true)), [Whither::Same, Whither::Same, Whither::Same]);
        for none in ["", "relay.example:x", "relay.example:0", "a b", "2001:db8::1", ":9", "http://relay.example/"] {
            assert_eq!(
                steps(notice(none, false)),
                [Whither::Elsewhere, Whither::Elsewhere, Whither::Elsewhere],
                "{none}"
            );
        }
    }
}
