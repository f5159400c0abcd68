//! What came of the questions, for metrics, page and log. Names nobody.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Whether the service answers is said once each time that it changes, and no more often than this: one that answers
/// every other time would fill the log.
const SAID_EVERY: Duration = Duration::from_secs(10);

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident $label:literal $sentence:literal;)*) => {
        /// What came of a question.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[$doc])* $name,)*
        }

        impl Outcome {
            /// All of them, in the order of [`Figures::outcomes`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What it means.
            const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

outcomes! {
    /// Let in.
    Yes "yes" "it lets in";
    /// Not let in.
    No "no" "it does not let in";
    /// Nothing came in time.
    Late "late" "it does not answer within admission.hook.timeout_ms";
    /// It cannot be reached.
    Unreachable "unreachable" "it cannot be connected to";
    /// The connection broke before the answer.
    Broken "broken" "the connection breaks";
    /// Another status than the four that say something.
    Unclear "unclear" "its status is none of 200, 204, 401 and 403";
    /// It was not asked, because too many questions wait.
    NoRoom "no_room" "too many wait for it";
}

impl Outcome {
    /// Whether the service has said something.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Yes | Self::No)
    }

    /// By how much answers, and questions without one, have become more.
    pub fn grown(before: &Outcomes, now: &Outcomes) -> (u64, u64) {
        let mut grown = (0, 0);
        for (outcome, (before, now)) in Self::ALL.iter().zip(before.iter().zip(now)) {
            let sum = if outcome.is_answer() { &mut grown.0 } else { &mut grown.1 };
            *sum += now.saturating_sub(*before);
        }
        grown
    }
}

/// How many of each outcome there are.
pub type Outcomes = [u64; Outcome::ALL.len()];

/// Counts for as long as the process lives, whatever service is asked.
#[derive(Debug, Default)]
pub struct Figures {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    waiting: AtomicU64,
    said: Mutex<Said>,
}

/// What the log says.
#[derive(Debug, Default)]
struct Said {
    silent: bool,
    at: Option<Instant>,
    /// Questions without an answer since the log says that there is none.
    unanswered: u64,
}

impl Figures {
    /// How many questions came to what.
    pub fn outcomes(&self) -> Outcomes {
        self.outcomes.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// How many wait to be asked.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn set_waiting(&self, waiting: usize) {
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    pub(super) fn count(&self, outcome: Outcome, now: Instant) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        match self.change(outcome, now) {
            Some(Change::Silent) => tracing::warn!(
                reason = outcome.sentence(),
                "the admission hook gives no answer: nobody new is let in, and those who are in stay for \
                 admission.hook.grace_s"
            ),
            Some(Change::Answers { unanswered }) => tracing::info!(unanswered, "the admission hook answers again"),
            None => {}
        }
    }

    fn change(&self, outcome: Outcome, now: Instant) -> Option<Change> {
        // What finds no room says nothing of the service.
        if outcome == Outcome::NoRoom {
            return None;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = !outcome.is_answer();
        said.unanswered += u64::from(silent);
        if silent == said.silent || said.at.is_some_and(|at| now.saturating_duration_since(at) < SAID_EVERY) {
            return None;
        }
        (said.silent, said.at) = (silent, Some(now));
        Some(match silent {
            true => {
                said.unanswered = 1;
                Change::Silent
            }
            false => Change::Answers { unanswered: said.unanswered },
        })
    }
}

/// What the log is to say.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Silent,
    Answers { unanswered: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn silence_is_said_once_however_many_ask_and_so_is_its_end() {
        let (figures, begin) = (Figures::default(), Instant::now());
        let mut said = Vec::new();
        for ms in 0..60_000 {
            let outcome = if ms < 30_000 { Outcome::Unreachable } else { Outcome::Yes };
            said.extend(figures.change(outcome, begin + Duration::from_millis(ms)));
        }
        assert_eq!(said, [Change::Silent, Change::Answers { unanswered: 30_000 }]);
        let flapping = (60_000..120_000)
            .map(|ms| (ms, if ms % 2 == 0 { Outcome::Late } else { Outcome::No }))
            .filter_map(|(ms, outcome)| figures.change(outcome, begin + Duration::from_millis(ms)));
        assert!(flapping.count() <= 6, "no more than once in ten seconds");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_says_nothing_of_the_service() {
        let figures = Figures::default();
        figures.count(Outcome::NoRoom, Instant::now());
        assert_eq!(figures.outcomes()[Outcome::NoRoom as usize], 1);
        assert_eq!(figures.change(Outcome::Yes, Instant::now()), None);
    }
}
