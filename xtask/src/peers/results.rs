//! What the rounds gave, and the ratios between them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Climbed,
    load::Measured,
    works::{Contest, Quantity, Relay, Run, Traffic},
};

/// The bound that an idle session must keep besides the ratio, in KB.
const IDLE_SESSION_KB_MAX: f64 = 30.0;

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Results {
    /// Each run with one result for each round.
    runs: Vec<(Run, Vec<Measured>)>,
    pub(super) ceilings: BTreeMap<Relay, Climbed>,
}

/// A row of the comparison.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) work: String,
    pub(super) against: String,
    pub(super) ratio_median: f64,
    pub(super) ratio_min: f64,
    pub(super) ratio_max: f64,
    pub(super) target: Option<f64>,
    /// Whether every run of it was.
    pub(super) valid: bool,
    /// Ours and theirs, medians, in the unit of the quantity.
    #[serde(skip)]
    pub(super) values: [f64; 2],
}

/// A median and the values around it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Results {
    /// One more result.
    pub(super) fn add(&mut self, run: Run, measured: Measured) {
        match self.runs.iter_mut().find(|(known, _)| *known == run) {
            Some((_, all)) => all.push(measured),
            None => self.runs.push((run, vec![measured])),
        }
    }

    /// How far a relay got.
    pub(super) fn add_ceiling(&mut self, relay: Relay, climbed: Climbed) {
        self.ceilings.insert(relay, climbed);
    }

    /// The results of a run, by round.
    pub(super) fn of(&self, run: Run) -> &[Measured] {
        self.runs.iter().find(|(known, _)| *known == run).map_or(&[], |(_, all)| all)
    }

    /// All runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = &(Run, Vec<Measured>)> {
        self.runs.iter()
    }

    /// The rows of these contests. A ratio is of two runs of the same round.
    pub(super) fn rows(&self, contests: &[&Contest]) -> Vec<Row> {
        let mut rows = Vec::new();
        for contest in contests {
            let (ours, theirs) = (self.of(contest.ours), self.of(contest.theirs));
            let value = |measured: &Measured| contest.quantity.of(measured);
            let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| match contest.quantity {
                Quantity::DelayP99 => value(ours) - value(theirs),
                Quantity::Cpu | Quantity::IdleRss => value(ours) / value(theirs),
            });
            let spread = Spread::of(ratios.collect());
            let valid = ours.iter().chain(theirs).all(|measured| measured.valid && measured.objects.loss == 0.0);
            let medians = [ours, theirs].map(|all| Spread::of(all.iter().map(value).collect()).median);
            rows.push(Row {
                work: contest.work.to_owned(),
                against: contest.against.to_owned(),
                ratio_median: spread.median,
                ratio_min: spread.min,
                ratio_max: spread.max,
                target: contest.target,
                valid,
                values: medians,
            });
        }
        if let Some(contest) = contests.iter().find(|contest| matches!(contest.ours.traffic, Traffic::Idle { .. })) {
            let kb: Vec<f64> = self.of(contest.ours).iter().map(|all| contest.quantity.of(all) * 1.024).collect();
            let spread = Spread::of(kb.iter().map(|kb| kb / IDLE_SESSION_KB_MAX).collect());
            rows.push(Row {
                work: contest.work.to_owned(),
                against: format!("{IDLE_SESSION_KB_MAX:.0} KB"),
                ratio_median: spread.median,
                ratio_min: spread.min,
                ratio_max: spread.max,
                target: Some(1.0),
                valid: true,
                values: [Spread::of(kb).median, IDLE_SESSION_KB_MAX],
            });
        }
        rows
    }
}

impl Quantity {
    fn of(self, measured: &Measured) -> f64 {
        match self {
            Self::Cpu => measured.relay.cpu_us_per_delivered.unwrap_or(f64::NAN),
            Self::IdleRss => measured.process.map_or(f64::NAN, |process| process.rss_kib_per_session),
            Self::DelayP99 => measured.delay_ms.p99,
        }
    }
}

impl Spread {
    /// Of these values; zeros if there are none.
    pub(super) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Self::default() };
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median: (low + high) / 2.0, min: *min, max: *max }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::works::CONTESTS, *};

    fn measured(cpu_us: f64, loss: f64) -> Measured {
        let json = serde_json::json!({
            "valid": true, "doubts": [], "objects": { "loss": loss, "delivered_per_s": 1.0 },
            "delay_ms": { "p50": 1.0, "p99": 2.0, "p999": 3.0 }, "generator": { "busy": [] },
            "relay": { "busy": 0.5, "cpu_us_per_delivered": cpu_us, "rss_mib": 1.0 },
        });
        serde_json::from_value(json).expect("a result")
    }

    #[test]
    fn a_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(vec![]), Spread::default());
    }

    #[test]
    fn a_ratio_is_of_the_same_round_and_a_loss_makes_a_row_invalid() {
        let contest = CONTESTS.iter().find(|contest| contest.name == "pairs-iroh").expect("it is there");
        let mut results = Results::default();
        for (ours, theirs) in [(10.0, 20.0), (30.0, 40.0), (8.0, 20.0)] {
            results.add(contest.ours, measured(ours, 0.0));
            results.add(contest.theirs, measured(theirs, 0.0));
        }
        let [row] = &results.rows(&[contest])[..] else { panic!("one row") };
        assert_eq!((row.ratio_median, row.ratio_min, row.ratio_max), (0.5, 0.4, 0.75));
        assert_eq!((row.values, row.valid), ([10.0, 20.0], true));
        results.add(contest.ours, measured(10.0, 0.001));
        assert!(!results.rows(&[contest])[0].valid);
    }
}
