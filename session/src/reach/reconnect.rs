//! When to connect again, and where.

use std::{ops::RangeInclusive, time::Duration};

use supernode_proto::{DEFAULT_PORT, control::GoAway};

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

/// The attempts to get a session elsewhere, while the relay that is about to go still serves the one that there is
/// first within the time and at the place that it names, then where it is, for as long as it takes.
#[derive(Debug)]
pub struct Move {
    window: Option<(RangeInclusive<Duration>, String)>,
    backoff: Backoff,
}

impl Move {
    /// The relay goes.
    pub fn new(notice: &GoAway, patience: &Patience) -> Self {
        let [after, before] =
            [notice.reconnect_after_ms, notice.reconnect_before_ms].map(|ms| Duration::from_millis(ms.into()));
        Self {
            window: Some((after..=before, notice.alternative.clone())),
            backoff: Backoff::new(patience.backoff_base, patience.backoff_max),
        }
    }

    /// How long to wait before the next attempt, and at which `host:port` to make it if not at the relay's own.
    pub fn next_attempt(
        &mut self,
        uniform: impl FnOnce(RangeInclusive<Duration>) -> Duration,
    ) -> (Duration, Option<String>) {
        match self.window.take() {
            Some((window, alternative)) => (uniform(window), Some(alternative).filter(|there| !there.is_empty())),
            None => (self.backoff.next_wait(uniform), None),
        }
    }
}

/// The host and port of another relay, as a notice names it; `None` if it names none.
pub fn split_address(address: &str) -> Option<(&str, u16)> {
    if address.is_empty() {
        return None;
    }
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let port = if port.is_empty() { DEFAULT_PORT } else { port.parse().ok()? };
    Some((host.trim_start_matches('[').trim_end_matches(']'), port))
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

    #[test]
    fn a_relay_that_goes_is_left_within_its_window_for_where_it_says_and_then_for_where_it_was() {
        let alternative = "other.example:9".to_owned();
        let notice = GoAway { reconnect_after_ms: 40, reconnect_before_ms: 90, alternative };
        let mut moving = Move::new(&notice, &patience());
        let first = moving.next_attempt(|range| {
            assert_eq!(range, ms(40)..=ms(90));
            ms(50)
        });
        assert_eq!(first, (ms(50), Some("other.example:9".into())));
        assert_eq!(moving.next_attempt(latest), (ms(250), None));
        assert_eq!(moving.next_attempt(latest), (ms(500), None));
    }

    #[test]
    fn the_alternative_of_a_drain_is_host_and_port() {
        assert_eq!(split_address(""), None);
        assert_eq!(split_address("relay.example:9"), Some(("relay.example", 9)));
        assert_eq!(split_address("relay.example"), Some(("relay.example", DEFAULT_PORT)));
        assert_eq!(split_address("[2001:db8::1]:9"), Some(("2001:db8::1", 9)));
        assert_eq!(split_address("relay.example:x"), None);
    }
}
