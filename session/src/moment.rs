//! Times, for code that has no clock.

use std::{ops::Add, time::Duration};

/// A moment: how long after a beginning that whoever has the clock chooses, once, for everything here. Programs have
/// the system's clock, pages another one, and a simulation has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// So long after the beginning.
    pub const fn at(since_beginning: Duration) -> Self {
        Self(since_beginning)
    }

    /// How long after the beginning.
    pub const fn since_beginning(self) -> Duration {
        self.0
    }

    /// How long after another moment; nothing if it is before it.
    pub const fn since(self, other: Self) -> Duration {
        self.0.saturating_sub(other.0)
    }

    /// So much earlier; nothing is before the beginning.
    pub const fn before(self, earlier_by: Duration) -> Self {
        Self(self.0.saturating_sub(earlier_by))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later_by: Duration) -> Self {
        Self(self.0.saturating_add(later_by))
    }
}
