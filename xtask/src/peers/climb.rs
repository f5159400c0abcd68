//! The highest rate without loss: up in steps until something gives way.

use serde::Serialize;

use super::{Session, results::Outcome, works::Ceiling};

/// From one rate to the next.
const STEP: f64 = 1.25;
/// The same in the quick form.
const STEP_QUICK: f64 = 1.5;
/// A relay that lets objects wait longer than this at the 99th percentile is beyond its highest rate too, in ms:
/// streams lose nothing, they stall.
const P99_MS_MAX: f64 = 50.0;

/// How far a relay got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Climbed {
    /// Objects delivered a second at the highest rate that was fine; 0 if none was.
    pub(super) delivered_per_s: f64,
    /// What each client sent in a second then.
    pub(super) per_s: f64,
    /// Whose cap it was, and how it showed.
    pub(super) stopped: String,
}

/// Climbs from where the last climb ended, less two steps, or from the ceiling's beginning.
pub(super) fn climb(session: &mut Session<'_>, ceiling: Ceiling, before: Option<&Climbed>) -> Climbed {
    let step = if session.quick { STEP_QUICK } else { STEP };
    let from = before.map_or(0.0, |before| before.per_s / (step * step));
    let mut rate = ceiling.from_per_s.max(from);
    let mut best = Climbed { delivered_per_s: 0.0, per_s: 0.0, stopped: "there was no time".to_owned() };
    loop {
        let run = ceiling.run.at(rate);
        let Some(outcome) = session.attempt("ceiling", run) else { return best };
        if let Some(why) = stopped(&outcome) {
            best.stopped = format!("{why}, at {:.0}/s", rate * f64::from(run.talkers()));
            return best;
        }
        if let Ok(measured) = outcome {
            (best.delivered_per_s, best.per_s) = (measured.objects.delivered_per_s, rate);
        }
        rate *= step;
    }
}

/// Whose cap it was. What the clients say of themselves comes first: a datagram that their own sockets drop is lost,
/// too, and no fault of the relay.
fn stopped(outcome: &Outcome) -> Option<String> {
    let measured = match outcome {
        Ok(measured) => measured,
        Err(error) => return Some(format!("failed: {error}")),
    };
    let busy = measured.relay.busy.unwrap_or_default() * 100.0;
    let doubt = measured.doubts.first().map_or("they call it invalid", String::as_str);
    if !measured.valid {
        Some(format!("its clients: {doubt} (relay {busy:.0} % busy)"))
    } else if measured.objects.loss > 0.0 {
        Some(format!("the relay: {:.2} % lost, {busy:.0} % busy", measured.objects.loss * 100.0))
    } else if measured.delay_ms.p99 > P99_MS_MAX {
        Some(format!("the relay: p99 {:.0} ms, {busy:.0} % busy", measured.delay_ms.p99))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(valid: bool, loss: f64, p99: f64) -> Outcome {
        let doubts: &[&str] = if valid { &[] } else { &["late"] };
        let json = serde_json::json!({
            "valid": valid, "doubts": doubts, "objects": { "loss": loss, "delivered_per_s": 1.0 },
            "delay_ms": { "p50": 1.0, "p99": p99, "p999": 3.0 }, "generator": { "busy": [] },
            "relay": { "busy": 0.75, "cpu_us_per_delivered": 1.0, "rss_mib": 1.0 },
        });
        Ok(serde_json::from_value(json).expect("a result"))
    }

    #[test]
    fn a_loss_with_clients_in_doubt_is_theirs_and_without_it_is_the_relays() {
        let why = |valid, loss, p99| stopped(&outcome(valid, loss, p99));
        assert_eq!(why(true, 0.0, 50.0), None);
        assert_eq!(why(false, 0.5, 99.0), Some("its clients: late (relay 75 % busy)".to_owned()));
        assert_eq!(why(true, 0.5, 99.0), Some("the relay: 50.00 % lost, 75 % busy".to_owned()));
        assert_eq!(why(true, 0.0, 51.0), Some("the relay: p99 51 ms, 75 % busy".to_owned()));
        assert_eq!(stopped(&Err("gone".to_owned())), Some("failed: gone".to_owned()));
    }
}
