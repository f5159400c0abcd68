//! Looks, while a run goes on, whether its SLOs still hold: one that has not held for long enough ends it.

use std::collections::VecDeque;

use supernode_measure::histogram::Histogram;

use super::{scenario::Scenario, slo::Slo};

/// What is judged is that of so long: a single moment says little.
const RECENT_S: f64 = 1.0;
/// From sending to counting, beside the delay.
const UNDER_WAY_S: f64 = 0.05;
/// What can be said before the end.
const LIVE: &[&str] =
    &["p50_delay_ms", "p90_delay_ms", "p99_delay_ms", "p999_delay_ms", "max_delay_ms", "loss", "sessions_lost"];

/// The SLOs that can be judged meanwhile, and since when each does not hold.
#[derive(Debug)]
pub(super) struct Watch {
    slos: Vec<(String, Slo, Option<f64>)>,
    patience_s: f64,
    looks: VecDeque<Look>,
}

/// What was counted in the measured part by then, and the delays since the look before.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    /// In s since the measured part began.
    pub(super) at_s: f64,
    pub(super) expected: u64,
    pub(super) delivered: u64,
    pub(super) lost_sessions: u32,
    pub(super) delay: Histogram,
}

impl Watch {
    /// Over a scenario's SLOs; none of them where it waits for its end.
    pub(super) fn new(scenario: &Scenario) -> Self {
        let parsed = scenario.slo.iter().filter_map(|text| Some((text.clone(), Slo::parse(text).ok()?, None)));
        let is_live = |(_, slo, _): &(String, Slo, Option<f64>)| slo.names().iter().all(|name| LIVE.contains(name));
        let slos = if scenario.abort_after_s > 0.0 { parsed.filter(is_live).collect() } else { Vec::new() };
        Self { slos, patience_s: scenario.abort_after_s, looks: VecDeque::new() }
    }

    /// Looks; why the run is to end now, if it is.
    pub(super) fn look(&mut self, now: Look) -> Option<String> {
        if self.slos.is_empty() {
            return None;
        }
        let at_s = now.at_s;
        self.looks.push_back(now);
        // The last one before what is recent.
        while self.looks.get(1).is_some_and(|look| look.at_s <= at_s - RECENT_S) {
            self.looks.pop_front();
        }
        let before = self.looks.front().filter(|look| look.at_s <= at_s - RECENT_S)?;
        let last = self.looks.back()?;
        let mut delay = Histogram::default();
        self.looks.iter().skip(1).for_each(|look| delay.add(&look.delay));
        // What is under way is not lost yet.
        let expected_per_s = (last.expected - before.expected) as f64 / (at_s - before.at_s);
        let under_way = expected_per_s * (delay.quantile_ms(0.99) / 1e3 + UNDER_WAY_S);
        let missing = last.expected.saturating_sub(last.delivered) as f64;
        let loss = (missing - under_way).max(0.0) / last.expected.max(1) as f64;
        let lost_sessions = f64::from(last.lost_sessions);
        let value = |name: &str| {
            let quantile = |share| (delay.count() > 0).then(|| delay.quantile_ms(share));
            match name {
                "p50_delay_ms" => quantile(0.5),
                "p90_delay_ms" => quantile(0.9),
                "p99_delay_ms" => quantile(0.99),
                "p999_delay_ms" => quantile(0.999),
                "max_delay_ms" => quantile(1.0),
                "loss" => Some(loss),
                "sessions_lost" => Some(lost_sessions),
                _ => None,
            }
        };
        for (text, slo, broken_since) in &mut self.slos {
            if slo.holds(&value) {
                *broken_since = None;
                continue;
            }
            if at_s - *broken_since.get_or_insert(at_s) >= self.patience_s {
                let patience_s = self.patience_s;
                return Some(format!("ended after {at_s:.1} s: {text} had not held for {patience_s} s"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks four times a second at 100 deliveries a second that take `ms`, of which one in `lose` is lost.
    fn run(watch: &mut Watch, seconds: std::ops::Range<u32>, ms: u64, lose: Option<u64>) -> Option<String> {
        (seconds.start * 4..seconds.end * 4).find_map(|look| {
            let due = u64::from(look) * 25;
            let mut delay = Histogram::default();
            (0..25).for_each(|_| delay.record_us(ms * 1000));
            let delivered = due - lose.map_or(0, |one_in| due / one_in);
            watch.look(Look { at_s: f64::from(look) / 4.0, expected: due, delivered, lost_sessions: 0, delay })
        })
    }

    fn watch(slo: &[&str]) -> Watch {
        let slo = slo.iter().map(|text| (*text).to_owned()).collect();
        Watch::new(&Scenario { slo, abort_after_s: 2.0, ..Scenario::default() })
    }

    #[test]
    fn a_run_ends_once_an_slo_has_not_held_for_long_enough() {
        let mut slow = watch(&["loss < 1%", "p99_delay_ms < 20"]);
        assert_eq!(run(&mut slow, 0..10, 5, None), None);
        assert_eq!(run(&mut slow, 10..11, 50, None), None, "a bad moment");
        assert_eq!(run(&mut slow, 11..20, 5, None), None);
        let why = run(&mut slow, 20..30, 50, None).expect("it does not hold any more");
        assert_eq!(why, "ended after 22.0 s: p99_delay_ms < 20 had not held for 2 s");
        let why = run(&mut watch(&["loss < 1%"]), 0..10, 5, Some(50)).expect("2 % are lost");
        assert!(why.contains("loss < 1% had not held"), "{why}");
    }

    #[test]
    fn what_can_only_be_said_in_the_end_ends_nothing() {
        assert_eq!(run(&mut watch(&["delivered > 1000000", "relay_rss_mib < 1"]), 0..10, 5, None), None);
        let patient = Scenario { slo: vec!["p99_delay_ms < 1".into()], ..Scenario::default() };
        assert_eq!(run(&mut Watch::new(&patient), 0..10, 50, None), None);
    }
}
