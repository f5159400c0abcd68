//! The only clock that anything here goes by.

use std::time::{Duration, Instant};

use supernode_server::core::Now;
use supernode_session::Moment;

/// The time of day at which every world begins.
const UNIX_MS: u64 = 1_790_000_000_000;

/// Turns moments of a world into times of the machine, which QUIC and the relay want. Only differences of those count.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    beginning: Instant,
}

impl Clock {
    /// At the beginning of a world.
    pub fn new() -> Self {
        Self { beginning: Instant::now() }
    }

    /// A moment as QUIC knows it.
    pub fn instant(&self, at: Moment) -> Instant {
        self.beginning + at.since_beginning()
    }

    /// A moment as the relay knows it.
    pub fn now(&self, at: Moment) -> Now {
        Now { instant: self.instant(at), unix_ms: UNIX_MS + at.since_beginning().as_millis() as u64 }
    }

    /// The other way round.
    pub fn moment(&self, instant: Instant) -> Moment {
        Moment::at(instant.saturating_duration_since(self.beginning))
    }

    /// The time of day, since 1970.
    pub fn unix(at: Moment) -> Duration {
        Duration::from_millis(UNIX_MS) + at.since_beginning()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
