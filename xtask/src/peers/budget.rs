//! How long everything may take.

use std::time::{Duration, Instant};

/// All of the quick form, once everything is built: ten minutes, less what printing and ending take.
const QUICK_TIME_MAX: Duration = Duration::from_secs(585);
/// One start of a relay with its clients; whatever hangs is ended then.
const STEP_TIME_MAX: Duration = Duration::from_secs(90);
/// What a step takes when nothing is wrong: none begins with less time left.
const STEP_TIME: Duration = Duration::from_secs(15);

/// The time that is left, and what there was none for.
pub(super) struct Budget {
    until: Option<Instant>,
    left_out: Vec<String>,
}

impl Budget {
    /// From now on.
    pub(super) fn new(quick: bool, now: Instant) -> Self {
        Self { until: quick.then(|| now + QUICK_TIME_MAX), left_out: Vec::new() }
    }

    /// Whether a step may begin. If not, it is on the list of what was left out.
    pub(super) fn allows(&mut self, what: &str, now: Instant) -> bool {
        let allowed = self.until.is_none_or(|until| now + STEP_TIME <= until);
        if !allowed {
            self.left_out.push(what.to_owned());
        }
        allowed
    }

    /// When a step that begins now is given up.
    pub(super) fn step_until(&self, now: Instant) -> Instant {
        let until = now + STEP_TIME_MAX;
        self.until.map_or(until, |all| all.min(until))
    }

    /// What there was no time for.
    pub(super) fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_time_for_is_named_and_nothing_outlasts_the_whole() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut quick = Budget::new(true, begun);
        assert!(quick.allows("first", begun) && quick.left_out().is_empty());
        assert_eq!((quick.step_until(begun), quick.step_until(at(580))), (at(90), at(585)));
        assert!(!quick.allows("last", at(571)));
        assert_eq!(quick.left_out(), ["last"]);
        let mut whole = Budget::new(false, begun);
        assert!(whole.allows("any", at(100_000)));
        assert_eq!(whole.step_until(at(100_000)), at(100_090));
    }
}
