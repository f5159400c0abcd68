//! The attacks: what they are, what a relay must be like for them, and how each is judged beside its call.

mod admitted;
mod crowded;
mod held;
mod interrupted;
mod multitudes;
mod operator;
mod pages;
pub(crate) mod small_machine;
mod unadmitted;
mod woken;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{client::Door, relay::Setting};

/// One of them.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What is done, for people.
    pub(crate) what: &'static str,
    /// Whether the gate has time for it.
    pub(crate) quick: bool,
    pub(crate) setting: Setting,
    pub(crate) run: Run,
    /// The least time that it needs to show anything.
    pub(crate) seconds_min: f64,
    /// An attack that makes fewer of its units a second shows nothing.
    pub(crate) rate_min: f64,
    /// What must hold besides what must hold under all of them.
    pub(crate) judge: fn(&Outcome) -> Result<(), String>,
}

/// How an attack is run, always in a process of its own.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// In Rust.
    Rust(fn(&Target) -> anyhow::Result<Report>),
    /// In Python, with a QUIC that shares no line with ours: the way that it plays.
    Python(&'static str),
}

/// What an attacker knows and has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Target {
    /// An invite link; attackers that have none use its address only.
    pub(crate) link: String,
    pub(crate) admin: String,
    pub(crate) pid: u32,
    /// Where the relay keeps its state, and its program: for attacks of the operator's bad luck.
    pub(crate) home: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) seconds: f64,
}

impl Target {
    pub(crate) fn door(&self) -> anyhow::Result<Door> {
        Door::from_link(&self.link)
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// What an attacker did and found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) count: u64,
    /// What was counted.
    pub(crate) unit: String,
    /// What else it found, by name.
    #[serde(default)]
    pub(crate) found: BTreeMap<String, f64>,
    /// Why the machine lets nobody try this.
    #[serde(default)]
    pub(crate) skipped: Option<String>,
}

impl Report {
    pub(crate) fn of(unit: &str) -> Self {
        Self { unit: unit.to_owned(), ..Self::default() }
    }

    pub(crate) fn found(&mut self, name: &str, value: f64) {
        self.found.insert(name.to_owned(), value);
    }
}

/// What a judge looks at.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// How long the attack went on.
    pub(crate) seconds: f64,
    /// The relay's memory before it, and the most while it went on.
    pub(crate) rss_before_mb: f64,
    pub(crate) rss_mb: f64,
}

impl Outcome {
    /// A number that the attacker found.
    fn found(&self, name: &str) -> Result<f64, String> {
        self.report.found.get(name).copied().ok_or_else(|| format!("the attack did not say {name}"))
    }

    /// Fails if a number that the attacker found is above its bound.
    fn at_most(&self, name: &str, bound: f64) -> Result<(), String> {
        match self.found(name)? {
            value if value > bound => Err(format!("{name} {value:.2}: at most {bound}")),
            _ => Ok(()),
        }
    }

    /// Fails if a number that the attacker found is below its bound.
    fn at_least(&self, name: &str, bound: f64) -> Result<(), String> {
        match self.found(name)? {
            value if value < bound => Err(format!("{name} {value:.2}: at least {bound}")),
            _ => Ok(()),
        }
    }
}

/// Nothing else must hold.
fn nothing_else(_: &Outcome) -> Result<(), String> {
    Ok(())
}

/// All of them, in the order of the table in `docs/SECURITY.md`.
pub(crate) fn all() -> Vec<Attack> {
    let mut all = unadmitted::attacks();
    all.extend(admitted::attacks());
    all.extend(pages::attacks());
    all.extend(crowded::attacks());
    all.extend(operator::attacks());
    all.extend(held::attacks());
    all.extend(interrupted::attacks());
    all.extend(multitudes::attacks());
    all.extend(woken::attacks());
    all.extend(small_machine::attacks());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_attacks_have_one_name() {
        let mut names: Vec<_> = all().iter().map(|attack| attack.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_judge_tells_what_is_too_much_too_little_and_missing() {
        let mut report = Report::of("things");
        report.found("ratio", 3.06);
        let outcome = Outcome { report, seconds: 1.0, rss_before_mb: 1.0, rss_mb: 2.0 };
        assert_eq!(outcome.at_most("ratio", 3.0), Err("ratio 3.06: at most 3".to_owned()));
        assert_eq!(outcome.at_most("ratio", 3.1), Ok(()));
        assert_eq!(outcome.at_least("ratio", 4.0), Err("ratio 3.06: at least 4".to_owned()));
        assert_eq!(outcome.at_most("other", 3.0), Err("the attack did not say other".to_owned()));
    }
}
