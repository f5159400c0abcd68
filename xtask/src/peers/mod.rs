//! `cargo xtask bench peers`: our relay and others, one after the other, on the same core, with the same work.

mod budget;
mod climb;
mod conditions;
mod load;
mod programs;
mod relay;
mod results;
mod table;
mod works;

use std::{io::Write, path::PathBuf, time::Instant};

use anyhow::{Context, bail};

pub use self::works::names;
use self::{
    budget::Budget,
    conditions::Conditions,
    load::Measured,
    programs::Programs,
    results::{Outcome, Results},
    works::{CEILINGS, CONTESTS, Ceiling, Run},
};

/// Rounds of the whole form.
const ROUNDS: u32 = 5;
/// Rounds of the quick form.
const ROUNDS_QUICK: u32 = 3;
/// Length of the measured part of each run, in s.
const HOLD_S: f64 = 3.0;
/// The same in the quick form.
const HOLD_S_QUICK: f64 = 2.0;
/// How often each relay is driven up to its highest rate; once in the quick form.
const CLIMBS: u32 = 3;

/// How to compare.
#[derive(Debug, Clone)]
pub struct Options {
    /// Rounds; each runs everything once.
    pub rounds: Option<u32>,
    /// Only these works; all if empty.
    pub only: Vec<String>,
    /// Shorter and fewer rounds.
    pub quick: bool,
    /// Prints the result as one JSON object, last.
    pub json: bool,
    /// Writes everything that was measured as JSON.
    pub details: Option<PathBuf>,
}

/// Compares, prints the result as Markdown, and says whether every row that was measured is valid. A missed target is a
/// result, not a failure; so is what the quick form had no time for, which is named.
///
/// # Errors
/// If a peer cannot be installed, or the result not be written.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    if let Some(unknown) = options.only.iter().find(|only| !names().contains(&only.as_str())) {
        bail!("--only {unknown}: must be of {}", names().join(", "));
    }
    let chosen = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let contests: Vec<_> = CONTESTS.iter().filter(|contest| chosen(contest.name)).collect();
    let mut runs: Vec<Run> = Vec::new();
    for contest in &contests {
        for run in [contest.ours, contest.theirs] {
            if !runs.contains(&run) {
                runs.push(run);
            }
        }
    }
    let ceilings: Vec<Ceiling> = CEILINGS.iter().filter(|_| chosen("ceiling")).copied().collect();
    let programs = Programs::ready(runs.iter().chain(ceilings.iter().map(|ceiling| &ceiling.run)))?;
    let rounds = options.rounds.unwrap_or(if options.quick { ROUNDS_QUICK } else { ROUNDS });
    let hold_s = if options.quick { HOLD_S_QUICK } else { HOLD_S };
    let conditions = Conditions::now(&programs, rounds, hold_s);
    let budget = Budget::new(options.quick, Instant::now());
    let mut session = Session { programs: &programs, budget, quick: options.quick, hold_s };
    let mut results = Results::default();
    let climbs = if options.quick { 1 } else { CLIMBS };
    session.compare(&runs, rounds, &mut results);
    for _ in 0..climbs {
        for ceiling in &ceilings {
            let before = results.ceilings.get(&ceiling.run.relay).and_then(|climbs| climbs.last()).cloned();
            let climbed = climb::climb(&mut session, *ceiling, before.as_ref());
            results.add_ceiling(ceiling.run.relay, climbed);
        }
    }
    let rows = results.rows(&contests);
    let left_out = session.budget.left_out();
    print!("{}", table::whole(&conditions, &rows, &results, left_out));
    if let Some(path) = &options.details {
        let details = table::details(&conditions, &rows, &results, left_out);
        std::fs::write(path, serde_json::to_string_pretty(&details)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    for row in &rows {
        if let Some(flaw) = &row.flaw {
            progress(&format!("INVALID: {}, against {}: {flaw}", row.work, row.against));
        }
    }
    if options.json {
        println!("{}", results::line(&rows)?);
    }
    Ok(rows.iter().all(|row| row.flaw.is_none() || (row.rounds == 0 && !left_out.is_empty())))
}

/// What all runs have in common.
struct Session<'a> {
    programs: &'a Programs,
    budget: Budget,
    quick: bool,
    hold_s: f64,
}

impl Session<'_> {
    fn compare(&mut self, runs: &[Run], rounds: u32, results: &mut Results) {
        for round in 0..rounds {
            for place in 0..runs.len() {
                // Every round begins somewhere else, so that nobody always runs behind the same one.
                let run = runs[(place + round as usize) % runs.len()];
                // Memory does not depend on how busy the machine is.
                if self.quick && round > 0 && run.with_more_sessions().is_some() {
                    continue;
                }
                if let Some(outcome) = self.attempt(&format!("round {}/{rounds}", round + 1), run) {
                    results.add(run, round, outcome);
                }
            }
        }
    }

    /// One result, if there is time for it. One that its own clients do not trust says nothing about the relay, so they
    /// have a second try.
    fn attempt(&mut self, when: &str, run: Run) -> Option<Outcome> {
        let what = format!("{when}  {}", run.name());
        if !self.budget.allows(&what, Instant::now()) {
            return None;
        }
        let outcome = self.once(&what, run);
        let trusted = outcome.as_ref().is_ok_and(|measured| measured.valid);
        if trusted || !self.budget.allows(&format!("{what}, again"), Instant::now()) {
            return Some(outcome);
        }
        Some(self.once(&what, run))
    }

    fn once(&self, what: &str, run: Run) -> Outcome {
        let until = self.budget.step_until(Instant::now());
        let outcome =
            load::measure(self.programs, run, self.hold_s, until).map_err(|error| format!("failed: {error:#}"));
        let line = outcome.as_ref().map_or_else(Clone::clone, Measured::line);
        progress(&format!("{what:<70} {line}"));
        outcome
    }
}

/// Progress is for whoever waits, not part of the result.
fn progress(line: &str) {
    // If nobody reads it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Measured {
    fn line(&self) -> String {
        let memory = self.process.rss_kib_per_session.map(|kib| format!("  {kib:.1} KiB a session"));
        let doubt = self.doubts.first().map(|doubt| format!("  INVALID: {doubt}")).unwrap_or_default();
        format!(
            "{:7.2} µs {:8.0}/s  loss {:.3} %  p50 {:.2} p99 {:.2} ms  relay {:.2} clients {:.2}{}{doubt}",
            self.relay.cpu_us_per_delivered.unwrap_or_default(),
            self.objects.delivered_per_s,
            self.objects.loss * 100.0,
            self.delay_ms.p50,
            self.delay_ms.p99,
            self.relay.busy.unwrap_or_default(),
            self.generator.busy.iter().copied().fold(0.0, f64::max),
            memory.unwrap_or_default(),
        )
    }
}
