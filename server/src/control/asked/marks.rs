//! What happened to the relay itself of late: the page marks it on its charts, so that a change stands beside its cause.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::control::serve::unix_now_ms;

/// So many are remembered: more than the page's quarter of an hour shows apart.
const MARKS_MAX: usize = 64;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The process began to serve.
    Started,
    /// It did, in the place of another one whose calls go on.
    TookOver,
    /// A changed configuration is in effect.
    Read,
    /// A changed configuration is of no use.
    Refused,
    /// Another certificate is shown.
    Certificate,
    /// The relay was told to end.
    Draining,
}

impl Event {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::TookOver => "took over in an upgrade",
            Self::Read => "configuration read again",
            Self::Refused => "configuration refused",
            Self::Certificate => "new certificate",
            Self::Draining => "draining",
        }
    }
}

/// One of these.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Mark {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What.
    pub what: &'static str,
}

/// All that are remembered; clones are the same ones.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    marks: VecDeque<Mark>,
    drain_ends: Option<Instant>,
}

impl Marks {
    /// It has just happened.
    pub fn note(&self, event: Event) {
        let mut kept = self.kept();
        if kept.marks.len() >= MARKS_MAX {
            kept.marks.pop_front();
        }
        kept.marks.push_back(Mark { unix_ms: unix_now_ms(), what: event.words() });
    }

    /// The relay drains from now on, for so long at most.
    pub fn drains(&self, patience: Duration) {
        self.note(Event::Draining);
        self.kept().drain_ends = Instant::now().checked_add(patience);
    }

    /// Seconds until the drain ends at the latest, if there is one.
    pub fn drain_left_s(&self) -> Option<u64> {
        let left = self.kept().drain_ends?.saturating_duration_since(Instant::now());
        Some(left.as_millis().div_ceil(1000) as u64)
    }

    /// Oldest first.
    pub fn all(&self) -> Vec<Mark> {
        self.kept().marks.iter().copied().collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_in_order() {
        let marks = Marks::default();
        marks.note(Event::Started);
        for _ in 0..MARKS_MAX {
            marks.clone().note(Event::Read);
        }
        let all = marks.all();
        assert_eq!(all.len(), MARKS_MAX);
        assert!(all.iter().all(|mark| mark.what == Event::Read.words()) && all.is_sorted_by_key(|mark| mark.unix_ms));
    }

    #[test]
    fn a_drain_counts_down_to_its_end_and_not_beyond() {
        let marks = Marks::default();
        assert_eq!(marks.drain_left_s(), None);
        marks.drains(Duration::from_secs(60));
        assert!((59..=60).contains(&marks.drain_left_s().expect("it drains")));
        marks.drains(Duration::ZERO);
        assert_eq!(marks.drain_left_s(), Some(0));
        assert_eq!(marks.all().len(), 2);
    }
}
