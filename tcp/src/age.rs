//! How long packets may wait for a TCP connection: by the time for which it makes them wait, and none beside it.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use supernode_proto::tcp::{PACKET_AGE_ANYHOW_MS_MAX, PACKET_AGE_MS_MAX};

/// For how long one connection has made packets wait. While it would take some and nobody gives it any, because the machine
/// is busy, it makes nobody wait: what is dropped then would tell QUIC of a path that is narrower than it is.
#[derive(Debug, Default)]
pub struct Waits {
    total: Duration,
    since: Option<Instant>,
}

/// When a packet came.
#[derive(Debug, Clone, Copy)]
pub struct Came {
    at: Instant,
    waits: Duration,
}

impl Waits {
    /// The connection takes nothing from now on.
    pub fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// It takes packets again.
    pub fn end(&mut self, now: Instant) {
        self.total = self.until(now);
        self.since = None;
    }

    /// A packet comes.
    pub fn came(&self, now: Instant) -> Came {
        Came { at: now, waits: self.until(now) }
    }

    /// Whether a packet has waited for so long that it is to be dropped.
    pub fn is_late(&self, came: Came, now: Instant) -> bool {
        let waited = self.until(now).saturating_sub(came.waits);
        waited > Duration::from_millis(PACKET_AGE_MS_MAX)
            || now.saturating_duration_since(came.at) > Duration::from_millis(PACKET_AGE_ANYHOW_MS_MAX)
    }

    fn until(&self, now: Instant) -> Duration {
        self.total + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// Gives packets to a connection; `wait` is called once, if it does not take them at once. Whether it was.
pub async fn give<G: Future>(giving: G, wait: impl FnOnce()) -> (G::Output, bool) {
    let (mut giving, mut wait) = (pin!(giving), Some(wait));
    let given = std::future::poll_fn(|cx| {
        let given = giving.as_mut().poll(cx);
        if given.is_pending()
            && let Some(wait) = wait.take()
        {
            wait();
        }
        given
    });
    let given = given.await;
    (given, wait.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_packet_is_late_once_the_connection_has_made_it_wait_and_not_because_the_machine_is_busy() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut waits = Waits::default();
        let first = waits.came(at(0));
        assert!(!waits.is_late(first, at(400)), "it could have been sent at any time");
        waits.begin(at(400));
        waits.begin(at(450));
        let second = waits.came(at(460));
        assert!(!waits.is_late(first, at(500)), "100 ms are not too long");
        waits.end(at(470));
        assert!(!waits.is_late(first, at(480)));
        waits.begin(at(900));
        assert!(!waits.is_late(second, at(960)), "it has waited twice: for 10 ms and for 60");
        assert!(waits.is_late(second, at(991)));
        let third = waits.came(at(991));
        waits.end(at(991));
        assert!(!waits.is_late(third, at(1491)) && waits.is_late(third, at(1492)), "half a second is too much anyhow");
    }

    #[tokio::test]
    async fn whoever_takes_a_packet_at_once_makes_nobody_wait() {
        assert_eq!(give(async { 7 }, || panic!("nobody waits")).await, (7, false));
        let mut told = 0;
        let (_, waited) = give(tokio::time::sleep(Duration::from_millis(2)), || told += 1).await;
        assert_eq!((waited, told), (true, 1));
    }
}
