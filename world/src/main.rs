//! `supernode-world`: runs worlds, and says what did not hold.

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use supernode_world::{Outcome, World, runs::Runs};

/// Runs the whole relay and real clients under a virtual clock and a seeded network.
#[derive(Debug, Parser)]
#[command(name = "supernode-world")]
struct Arguments {
    /// How many seeds to run
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// The relay lies to its clients, but for when nothing happens
    #[arg(long)]
    lying: bool,
    /// Prints what happens in the first of them, and runs no other
    #[arg(long)]
    told: bool,
    /// Prints the result as one JSON object, last
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Arguments { seeds, from, lying, told, json } = Arguments::parse();
    if told {
        return tell(from, lying);
    }
    let runs = Runs::of(from, seeds, lying, |outcome| {
        if let Some(violation) = &outcome.violation {
            let seed = outcome.seed;
            let lying = if lying { " --lying" } else { "" };
            say(&format!("seed {seed}: {violation}\n  again: cargo xtask world --seeds 1 --from {seed}{lying} --told"));
        }
    });
    let (hours, wall_s) = (runs.call_hours(), runs.took.as_secs_f64());
    say(&format!(
        "{} seeds, {} failures: {} packets, {} objects, {hours:.2} call-hours in {wall_s:.1} s, {:.1} a minute",
        runs.seeds,
        runs.failures.len(),
        runs.packets,
        runs.objects,
        hours / wall_s * 60.0
    ));
    let (planted_found, planted) = if (seeds > 1 || json) && !lying { plant(from) } else { (0, 0) };
    if json {
        let result = json!({
            "seeds": runs.seeds,
            "failures": runs.failures.iter().map(|outcome| outcome.seed).collect::<Vec<_>>(),
            "call_hours": hours,
            "wall_s": wall_s,
            "planted_found": planted_found,
            "planted": planted,
        });
        say(&result.to_string());
    }
    let is_well = runs.failures.is_empty() && planted_found == planted;
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plants every fault; how many of how many were found.
#[cfg(feature = "planted")]
fn plant(from: u64) -> (usize, usize) {
    use supernode_world::planted::{Found, SEEDS_MAX, find_all};

    let found = find_all(from, |Found { fault, by }| match by {
        Some((outcome, seeds)) => {
            let rule = outcome.violation.as_ref().map_or_else(String::new, |found| format!("{:?}", found.rule));
            say(&format!("planted {fault:?}: found by seed {}, of {seeds} that were tried, as {rule}", outcome.seed));
        }
        None => say(&format!("planted {fault:?}: NOT FOUND in {SEEDS_MAX} seeds")),
    });
    (found.iter().filter(|found| found.by.is_some()).count(), found.len())
}

/// Built without faults, there are none.
#[cfg(not(feature = "planted"))]
fn plant(_: u64) -> (usize, usize) {
    (0, 0)
}

/// One world, with all that happens there.
fn tell(seed: u64, is_lying: bool) -> ExitCode {
    let Outcome { lines, violation, digest, .. } = World::run(seed, is_lying, true);
    lines.iter().for_each(|line| say(line));
    say(&format!("digest {digest:016x}"));
    match violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            say(&format!("seed {seed}: {violation}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "what this program is for")]
fn say(line: &str) {
    println!("{line}");
}
