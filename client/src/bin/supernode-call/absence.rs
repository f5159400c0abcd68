//! Says after a break of the connection, or after this machine slept, how long it was and who is still there.

use std::time::{Duration, SystemTime};

use supernode_client::{Call, CallEvent};
use tokio::sync::broadcast::error::RecvError;

use crate::progress::note;

const TICK: Duration = Duration::from_secs(1);
/// A longer time between two ticks was sleep.
const SLEPT_MIN: Duration = Duration::from_secs(5);
/// When the relay was restarted or replaced, everybody was away, and somebody is the first to be back: so long the others
/// have to follow before they are called gone.
const OTHERS_FOLLOW: Duration = Duration::from_secs(5);

/// Runs as long as the call.
pub(crate) async fn tell(call: Call) {
    let mut events = call.events();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut absence = Absence::new(SystemTime::now());
    loop {
        let told = tokio::select! {
            _ = ticks.tick() => absence.tick(SystemTime::now(), call.members().len()),
            event = events.recv() => match event {
                Ok(CallEvent::Interrupted) => {
                    absence.begin();
                    None
                }
                Ok(CallEvent::Resumed) => {
                    absence.end(SystemTime::now());
                    absence.tick(SystemTime::now(), call.members().len())
                }
                Ok(_) | Err(RecvError::Lagged(_)) => None,
                Err(RecvError::Closed) => return,
            }
        };
        if let Some(told) = told {
            note(&told);
        }
    }
}

/// When we were last there, by the time of day, which goes on while a machine sleeps.
#[derive(Debug)]
struct Absence {
    seen: SystemTime,
    since: Option<SystemTime>,
    /// We are back, and it is not yet said who is there.
    back: Option<Back>,
}

#[derive(Debug)]
struct Back {
    at: SystemTime,
    away: Duration,
}

impl Absence {
    fn new(now: SystemTime) -> Self {
        Self { seen: now, since: None, back: None }
    }

    /// What there is to say.
    fn tick(&mut self, now: SystemTime, others: usize) -> Option<String> {
        if now.duration_since(self.seen).is_ok_and(|passed| passed > SLEPT_MIN) {
            self.begin();
        }
        self.seen = now;
        let back = self.back.as_ref()?;
        let others_follow = now.duration_since(back.at).is_ok_and(|passed| passed < OTHERS_FOLLOW);
        if others == 0 && others_follow {
            return None;
        }
        self.back.take().map(|back| words(back.away, others))
    }

    fn begin(&mut self) {
        self.back = None;
        self.since.get_or_insert(self.seen);
    }

    fn end(&mut self, now: SystemTime) {
        let away = self.since.take().and_then(|since| now.duration_since(since).ok()).unwrap_or_default();
        self.seen = now;
        self.back = Some(Back { at: now, away });
    }
}

fn words(away: Duration, others: usize) -> String {
    let away_s = away.as_secs();
    match others {
        0 => format!("back in the call after {away_s} s: the others have gone meanwhile, and nobody hears us"),
        1 => format!("back in the call after {away_s} s: one other is here"),
        others => format!("back in the call after {away_s} s: {others} others are here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + second)
    }

    #[test]
    fn whoever_slept_was_away_since_they_fell_asleep_and_not_since_they_noticed() {
        let mut absence = Absence::new(at(0));
        assert!((1..=10).all(|second| absence.tick(at(second), 1).is_none()));
        assert_eq!(absence.tick(at(55), 1), None);
        absence.begin();
        assert_eq!(absence.tick(at(56), 1), None);
        absence.end(at(58));
        assert_eq!(absence.tick(at(58), 1).as_deref(), Some("back in the call after 48 s: one other is here"));
        assert_eq!(absence.tick(at(59), 1), None, "it is said once");
        absence.begin();
        absence.end(at(62));
        let told = absence.tick(at(62), 2).expect("a break without sleep");
        assert_eq!(told, "back in the call after 3 s: 2 others are here");
    }

    #[test]
    fn an_empty_room_is_called_one_and_one_that_the_others_are_on_their_way_to_is_not() {
        let mut first = Absence::new(at(0));
        first.begin();
        first.end(at(1));
        assert!((1..=3).all(|second| first.tick(at(second), 0).is_none()), "they move to the relay's next process");
        assert_eq!(first.tick(at(4), 1).as_deref(), Some("back in the call after 1 s: one other is here"));

        let mut alone = Absence::new(at(0));
        alone.begin();
        alone.end(at(1));
        assert!((1..=5).all(|second| alone.tick(at(second), 0).is_none()));
        let told = alone.tick(at(6), 0).expect("nobody follows");
        assert_eq!(told, "back in the call after 1 s: the others have gone meanwhile, and nobody hears us");
    }
}
