//! Tells a relay that is gone from one that has nothing to say: a relay acknowledges what we ask it.

use std::time::Duration;

use crate::Moment;

/// The most that passes between two looks of a client that runs. Of a longer time we know nothing: this machine stood
/// still.
const LOOK_MAX: Duration = Duration::from_millis(500);
/// The time of day runs ahead of our own clock by more than this when the machine has slept, or somebody set it.
const SLEPT_MIN: Duration = Duration::from_secs(2);
/// We ask for the first time after a quarter of the longest silence, and then again and again: one packet may be lost,
/// and QUIC's own probes become rare soon.
const ASK_AFTER: u32 = 4;
const ASK_EVERY: u32 = 8;

/// One moment on both clocks: our own may stand still while the machine sleeps, the time of day goes on.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// By our own.
    pub moment: Moment,
    /// By the time of day: since 1970.
    pub unix: Duration,
}

/// What a connection has counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Packets from the relay.
    pub heard: u64,
    /// Frames to it that it must acknowledge.
    pub asked: u64,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The relay answers, or was not asked.
    Sound,
    /// It is time to ask.
    Ask,
    /// It did not answer for too long.
    Gone,
}

/// What was counted when something last arrived, and how long questions have been open since. QUIC's own idle timeout is
/// longer than anybody in a call waits.
#[derive(Debug)]
pub struct Silence {
    max: Duration,
    looked: Option<Clocks>,
    last: Seen,
    open_for: Duration,
    ask_at: Duration,
}

impl Silence {
    /// How often to look.
    pub const LOOK_EVERY: Duration = Duration::from_millis(250);

    /// A relay that leaves questions open for `max` is gone.
    pub fn new(max: Duration) -> Self {
        Self { max, looked: None, last: Seen::default(), open_for: Duration::ZERO, ask_at: max / ASK_AFTER }
    }

    /// Looks at what has been counted by now.
    pub fn look(&mut self, now: Clocks, seen: Seen) -> Verdict {
        let before = self.looked.replace(now).unwrap_or(now);
        let passed = now.moment.since(before.moment);
        let slept = now.unix.saturating_sub(before.unix).saturating_sub(passed) > SLEPT_MIN;
        if seen.heard != self.last.heard {
            (self.last, self.open_for, self.ask_at) = (seen, Duration::ZERO, self.max / ASK_AFTER);
        } else if seen.asked > self.last.asked {
            self.open_for += passed.min(LOOK_MAX);
        }
        if self.open_for >= self.max {
            return Verdict::Gone;
        }
        // Whoever slept for longer than the relay keeps a silent client wants to know at once.
        if slept || passed > LOOK_MAX {
            return Verdict::Ask;
        }
        if self.open_for >= self.ask_at {
            self.ask_at += self.max / ASK_EVERY;
            return Verdict::Ask;
        }
        Verdict::Sound
    }
}
