//! `cargo xtask bench peers`: our relay and others, one after the other, on the same core, with the same work.

mod load;
mod programs;
mod relay;
mod results;
mod table;
mod works;

use std::io::Write;

use anyhow::bail;

pub use self::works::names;
use self::{
    load::Measured,
    programs::Programs,
    results::Results,
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
/// A relay that loses more than this is beyond its highest rate.
const LOSS_MAX: f64 = 0.0;
/// So does one that lets objects wait longer than this at the 99th percentile, in ms: streams lose nothing, they stall.
const CEILING_P99_MS_MAX: f64 = 50.0;

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
}

/// Compares, prints tables, and says whether every row is valid. A missed target is a result, not a failure.
///
/// # Errors
/// If a peer cannot be installed or started, or a client of it fails.
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
    let ceilings: Vec<&Ceiling> = CEILINGS.iter().filter(|_| chosen("ceiling")).collect();
    let programs = Programs::ready(runs.iter().chain(ceilings.iter().map(|ceiling| &ceiling.run)))?;
    let hold_s = if options.quick { HOLD_S_QUICK } else { HOLD_S };
    let rounds = options.rounds.unwrap_or(if options.quick { ROUNDS_QUICK } else { ROUNDS });
    let mut results = Results::default();
    for round in 0..rounds {
        for place in 0..runs.len() {
            // Every round begins somewhere else, so that nobody always runs behind the same one.
            let run = runs[(place + round as usize) % runs.len()];
            let measured = load::measure(&programs, run, hold_s)?;
            progress(&format!("round {}/{rounds}  {:<58} {}", round + 1, run.name(), measured.line()));
            results.add(run, measured);
        }
    }
    for ceiling in ceilings {
        let found = climb(&programs, ceiling, options.quick)?;
        results.add_ceiling(ceiling.run.relay, found);
    }
    let rows = results.rows(&contests);
    print!("{}", table::rows(&rows));
    print!("{}", table::runs(&runs, &results));
    print!("{}", table::relays(&results));
    if options.json {
        println!("{}", serde_json::json!({ "rows": rows }));
    }
    Ok(rows.iter().all(|row| row.valid))
}

/// The highest rate without loss of which the clients are sure.
struct Climbed {
    delivered_per_s: f64,
    /// Why it went no further.
    stopped: String,
}

fn climb(programs: &Programs, ceiling: &Ceiling, quick: bool) -> anyhow::Result<Climbed> {
    let step = if quick { 1.5 } else { 1.25 };
    let mut best = Climbed { delivered_per_s: 0.0, stopped: String::new() };
    let mut rate = ceiling.from_per_s;
    loop {
        let run = ceiling.run.at(rate);
        let measured = load::measure(programs, run, HOLD_S_QUICK)?;
        progress(&format!("ceiling    {:<58} {}", run.name(), measured.line()));
        let stopped = if measured.objects.loss > LOSS_MAX {
            Some(format!("{:.2} % lost", measured.objects.loss * 100.0))
        } else if measured.delay_ms.p99 > CEILING_P99_MS_MAX {
            Some(format!("p99 {:.0} ms", measured.delay_ms.p99))
        } else if !measured.valid {
            Some("its clients were the cap".to_owned())
        } else {
            None
        };
        if let Some(why) = stopped {
            let busy = measured.relay.busy.unwrap_or_default() * 100.0;
            best.stopped = format!("{why} at {:.0}/s, relay {busy:.0} % busy", rate * f64::from(run.talkers()));
            return Ok(best);
        }
        best.delivered_per_s = measured.objects.delivered_per_s;
        rate *= step;
    }
}

/// Progress is for whoever waits, not part of the result.
fn progress(line: &str) {
    // If nobody reads it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

impl Measured {
    fn line(&self) -> String {
        let doubt = self.doubts.first().map(|doubt| format!("  INVALID: {doubt}")).unwrap_or_default();
        format!(
            "{:7.2} µs {:8.0}/s  loss {:.3} %  p50 {:.2} p99 {:.2} ms  relay {:.2} clients {:.2}{doubt}",
            self.relay.cpu_us_per_delivered.unwrap_or_default(),
            self.objects.delivered_per_s,
            self.objects.loss * 100.0,
            self.delay_ms.p50,
            self.delay_ms.p99,
            self.relay.busy.unwrap_or_default(),
            self.generator.busy.iter().copied().fold(0.0, f64::max),
        )
    }
}
