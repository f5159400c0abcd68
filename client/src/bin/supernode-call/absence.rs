//! Says after a break of the connection, or after this machine slept, how long it was and who is still there.

use std::time::{Duration, SystemTime};

use supernode_client::{Call, CallEvent};
use tokio::sync::broadcast::error::RecvError;

use crate::progress::note;

const TICK: Duration = Duration::from_secs(1);
/// A longer time between two ticks was sleep.
const SLEPT_MIN: Duration = Duration::from_secs(5);

/// Runs as long as the call.
pub(crate) async fn tell(call: Call) {
    let mut events = call.events();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut absence = Absence { seen: SystemTime::now(), since: None };
    loop {
        tokio::select! {
            _ = ticks.tick() => absence.tick(SystemTime::now()),
            event = events.recv() => match event {
                Ok(CallEvent::Interrupted) => absence.begin(),
                Ok(CallEvent::Resumed) => {
                    let away = absence.end(SystemTime::now());
                    note(&words(away, call.members().len()));
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
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

/// When we were last there, by the time of day, which goes on while a machine sleeps.
#[derive(Debug)]
struct Absence {
    seen: SystemTime,
    since: Option<SystemTime>,
}

impl Absence {
    fn tick(&mut self, now: SystemTime) {
        if now.duration_since(self.seen).is_ok_and(|passed| passed > SLEPT_MIN) {
            self.begin();
        }
        self.seen = now;
    }

    fn begin(&mut self) {
        self.since.get_or_insert(self.seen);
    }

    /// How long it was.
    fn end(&mut self, now: SystemTime) -> Duration {
        self.seen = now;
        self.since.take().and_then(|since| now.duration_since(since).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_slept_was_away_since_they_fell_asleep_and_not_since_they_noticed() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |second| start + Duration::from_secs(second);
        let mut absence = Absence { seen: at(0), since: None };
        (1..=10).for_each(|second| absence.tick(at(second)));
        absence.tick(at(55));
        absence.begin();
        absence.tick(at(56));
        assert_eq!(absence.end(at(58)), Duration::from_secs(48));
        absence.tick(at(59));
        absence.begin();
        assert_eq!(absence.end(at(62)), Duration::from_secs(3), "a break without sleep");
    }

    #[test]
    fn an_empty_room_is_called_one() {
        let told = words(Duration::from_secs(45), 0);
        assert_eq!(told, "back in the call after 45 s: the others have gone meanwhile, and nobody hears us");
        assert!(words(Duration::from_secs(1), 2).ends_with("2 others are here"));
    }
}
