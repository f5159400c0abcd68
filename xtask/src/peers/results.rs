//! What the rounds gave, and the ratios between them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    climb::Climbed,
    load::Measured,
    works::{Contest, Quantity, Relay, Run},
};

/// The bound that an idle session must keep besides the ratio, in KB.
const IDLE_SESSION_KB_MAX: f64 = 30.0;

/// A result, or why there is none.
pub(super) type Outcome = Result<Measured, String>;

/// Everything that was measured.
#[derive(Default)]
pub(super) struct Results {
    /// Each run with its outcomes by round.
    runs: Vec<(Run, BTreeMap<u32, Outcome>)>,
    pub(super) ceilings: BTreeMap<Relay, Vec<Climbed>>,
}

/// A row of the comparison.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) work: &'static str,
    pub(super) against: String,
    /// Of the rounds in which both were measured.
    pub(super) ratio: Spread,
    pub(super) rounds: usize,
    pub(super) target: Option<f64>,
    /// Ours and theirs, medians, in the unit of the quantity.
    pub(super) values: [f64; 2],
    /// Why it is invalid.
    pub(super) flaw: Option<String>,
}

/// A median and the values around it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// The line that `--json` ends with: rows that are valid and have a target.
#[derive(Serialize)]
struct Line<'a> {
    rows: Vec<LineRow<'a>>,
}

#[derive(Serialize)]
struct LineRow<'a> {
    work: &'a str,
    against: &'a str,
    ratio_median: f64,
    ratio_min: f64,
    ratio_max: f64,
    target: f64,
}

impl Results {
    /// One more result.
    pub(super) fn add(&mut self, run: Run, round: u32, outcome: Outcome) {
        let place = self.runs.iter().position(|(known, _)| *known == run).unwrap_or_else(|| {
            self.runs.push((run, BTreeMap::new()));
            self.runs.len() - 1
        });
        self.runs[place].1.insert(round, outcome);
    }

    /// How far a relay got, once more.
    pub(super) fn add_ceiling(&mut self, relay: Relay, climbed: Climbed) {
        self.ceilings.entry(relay).or_default().push(climbed);
    }

    /// The outcomes of a run, by round.
    pub(super) fn outcomes(&self, run: Run) -> impl Iterator<Item = (u32, &Outcome)> {
        let found = self.runs.iter().find(|(known, _)| *known == run);
        found.into_iter().flat_map(|(_, outcomes)| outcomes.iter().map(|(round, outcome)| (*round, outcome)))
    }

    /// The results of a run.
    pub(super) fn of(&self, run: Run) -> impl Iterator<Item = &Measured> {
        self.outcomes(run).filter_map(|(_, outcome)| outcome.as_ref().ok())
    }

    /// All runs, in the order in which they were first measured.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> {
        self.runs.iter().map(|(run, _)| *run)
    }

    /// The rows of these contests. A ratio is of two runs of the same round.
    pub(super) fn rows(&self, contests: &[&'static Contest]) -> Vec<Row> {
        let mut rows: Vec<Row> = contests.iter().map(|contest| self.row(contest)).collect();
        rows.extend(contests.iter().find(|contest| contest.name == "idle").map(|contest| self.idle_bound(contest)));
        rows
    }

    fn row(&self, contest: &'static Contest) -> Row {
        let value = |measured: &Measured| contest.quantity.of(measured);
        let theirs: BTreeMap<u32, &Outcome> = self.outcomes(contest.theirs).collect();
        let both = self
            .outcomes(contest.ours)
            .filter_map(|(round, ours)| Some((value(ours.as_ref().ok()?), value(theirs.get(&round)?.as_ref().ok()?))));
        let both: Vec<(f64, f64)> = both.collect();
        let ratios = both.iter().map(|(ours, theirs)| match contest.quantity {
            Quantity::DelayP99 => ours - theirs,
            Quantity::Cpu | Quantity::SessionRss => ours / theirs,
        });
        let ratio = Spread::of(ratios.collect());
        let flaw = [contest.ours, contest.theirs].into_iter().find_map(|run| self.flaw(run));
        Row {
            work: contest.work,
            against: contest.against.to_owned(),
            ratio,
            rounds: both.len(),
            target: contest.target,
            values: [
                Spread::of(both.iter().map(|(ours, _)| *ours).collect()).median,
                Spread::of(both.iter().map(|(_, theirs)| *theirs).collect()).median,
            ],
            flaw: flaw.or_else(|| ratio.unknown(both.len())),
        }
    }

    /// Our idle session against its bound.
    fn idle_bound(&self, contest: &'static Contest) -> Row {
        let kb: Vec<f64> = self.of(contest.ours).map(|measured| contest.quantity.of(measured) * 1.024).collect();
        let ratio = Spread::of(kb.iter().map(|kb| kb / IDLE_SESSION_KB_MAX).collect());
        Row {
            work: contest.work,
            against: format!("{IDLE_SESSION_KB_MAX:.0} KB"),
            ratio,
            rounds: kb.len(),
            target: Some(1.0),
            flaw: self.flaw(contest.ours).or_else(|| ratio.unknown(kb.len())),
            values: [Spread::of(kb).median, IDLE_SESSION_KB_MAX],
        }
    }

    /// What is wrong with a run, in whatever round.
    fn flaw(&self, run: Run) -> Option<String> {
        self.outcomes(run).find_map(|(round, outcome)| {
            let flaw = outcome.as_ref().map_or_else(|error| Some(error.clone()), Measured::flaw)?;
            Some(format!("round {}, {}: {flaw}", round + 1, run.relay.name()))
        })
    }
}

/// The last line of `--json`.
pub(super) fn line(rows: &[Row]) -> serde_json::Result<String> {
    let rows = rows.iter().filter(|row| row.flaw.is_none()).filter_map(|row| {
        Some(LineRow {
            work: row.work,
            against: &row.against,
            ratio_median: row.ratio.median,
            ratio_min: row.ratio.min,
            ratio_max: row.ratio.max,
            target: row.target?,
        })
    });
    serde_json::to_string(&Line { rows: rows.collect() })
}

impl Quantity {
    fn of(self, measured: &Measured) -> f64 {
        match self {
            Self::Cpu => measured.relay.cpu_us_per_delivered.unwrap_or(f64::NAN),
            Self::SessionRss => measured.process.rss_kib_per_session.unwrap_or(f64::NAN),
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

    /// Why it says nothing, if so.
    fn unknown(self, rounds: usize) -> Option<String> {
        let known = rounds > 0 && self.min.is_finite() && self.max.is_finite();
        (!known).then(|| "not measured".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::works::CONTESTS, *};

    fn measured(cpu_us: f64, loss: f64) -> Outcome {
        let json = serde_json::json!({
            "valid": true, "doubts": [], "objects": { "loss": loss, "delivered_per_s": 1.0 },
            "delay_ms": { "p50": 1.0, "p99": 2.0, "p999": 3.0 }, "generator": { "busy": [] },
            "relay": { "busy": 0.5, "cpu_us_per_delivered": cpu_us, "rss_mib": 1.0 },
        });
        Ok(serde_json::from_value(json).expect("a result"))
    }

    fn contest(name: &str) -> &'static Contest {
        CONTESTS.iter().find(|contest| contest.name == name).expect("it is there")
    }

    fn rounds_of(contest: &Contest) -> Results {
        let mut results = Results::default();
        for (round, (ours, theirs)) in (0..).zip([(10.0, 20.0), (30.0, 40.0), (8.0, 20.0)]) {
            results.add(contest.ours, round, measured(ours, 0.0));
            results.add(contest.theirs, round, measured(theirs, 0.0));
        }
        results
    }

    #[test]
    fn a_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(vec![]), Spread::default());
    }

    #[test]
    fn a_ratio_is_of_the_same_round_and_rounds_that_one_side_missed_do_not_shift_the_others() {
        let contest = contest("pairs-iroh");
        let mut results = rounds_of(contest);
        let [row] = &results.rows(&[contest])[..] else { panic!("one row") };
        assert_eq!(row.ratio, Spread { median: 0.5, min: 0.4, max: 0.75 });
        assert_eq!((row.values, &row.flaw, row.rounds), ([10.0, 20.0], &None, 3));
        // Theirs was left out in the fourth round and ours in the fifth.
        results.add(contest.ours, 3, measured(1000.0, 0.0));
        results.add(contest.theirs, 4, measured(1.0, 0.0));
        results.add(contest.ours, 5, measured(10.0, 0.0));
        results.add(contest.theirs, 5, measured(10.0, 0.0));
        let row = &results.rows(&[contest])[0];
        assert_eq!((row.ratio.max, row.ratio.min, row.rounds), (1.0, 0.4, 4));
    }

    #[test]
    fn a_loss_or_a_failure_makes_its_row_invalid_and_says_which() {
        let contest = contest("pairs-iroh");
        let mut results = rounds_of(contest);
        results.add(contest.ours, 3, measured(10.0, 0.001));
        results.add(contest.theirs, 3, measured(10.0, 0.0));
        let flaw = results.rows(&[contest])[0].flaw.clone();
        assert_eq!(flaw, Some("round 4, supernode, window 500 µs: 0.100 % lost".to_owned()));
        let mut results = rounds_of(contest);
        results.add(contest.theirs, 1, Err("its clients were not done in time".to_owned()));
        let row = &results.rows(&[contest])[0];
        assert_eq!(row.flaw, Some("round 2, iroh-relay: its clients were not done in time".to_owned()));
        assert_eq!(row.rounds, 2, "the others are shown");
        let nothing = Results::default().rows(&[contest])[0].flaw.clone();
        assert_eq!(nothing, Some("not measured".to_owned()));
    }

    #[test]
    fn dead_idle_sessions_are_no_row_even_against_the_bound() {
        let contest = contest("idle");
        let mut results = Results::default();
        let mut outcome = measured(0.0, 0.0);
        outcome.as_mut().expect("a result").process.rss_kib_per_session = Some(15.0);
        results.add(contest.ours, 0, outcome.clone());
        results.add(contest.theirs, 0, outcome.clone());
        let rows = results.rows(&[contest]);
        assert_eq!((rows.len(), rows[0].ratio.median, rows[1].ratio.median), (2, 1.0, 15.0 * 1.024 / 30.0));
        assert!(rows.iter().all(|row| row.flaw.is_none()));
        let dead = outcome.as_mut().expect("a result");
        (dead.valid, dead.doubts) = (false, vec!["only 1 of 500 was alive".to_owned()]);
        results.add(contest.ours, 1, outcome);
        assert!(results.rows(&[contest]).iter().all(|row| row.flaw.is_some()));
    }

    #[test]
    fn the_last_line_has_exactly_the_six_keys_and_only_valid_rows_with_a_target() {
        let row = |against: &str, target: Option<f64>, flaw: Option<&str>| Row {
            work: "pairs",
            against: against.to_owned(),
            ratio: Spread { median: 0.5, min: 0.25, max: 1.0 },
            rounds: 3,
            target,
            values: [1.0, 2.0],
            flaw: flaw.map(str::to_owned),
        };
        let rows = [row("a", Some(0.5), None), row("b", None, None), row("c", Some(1.0), Some("lost"))];
        assert_eq!(
            line(&rows).expect("JSON"),
            r#"{"rows":[{"work":"pairs","against":"a","ratio_median":0.5,"ratio_min":0.25,"ratio_max":1.0,"target":0.5}]}"#
        );
        assert_eq!(line(&[]).expect("JSON"), r#"{"rows":[]}"#);
    }
}
