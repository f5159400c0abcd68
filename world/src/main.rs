//! `supernode-world`: runs worlds, and says what did not hold.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use serde_json::json;
use supernode_world::{Outcome, Plan, World, nodes, runs::Runs};
use supernode_world_options::Options;

/// Runs the whole relay and real clients under a virtual clock and a seeded network.
#[derive(Debug, Parser)]
#[command(name = "supernode-world")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    let Options { seeds, from, lying, nodes, told, json, less } = options;
    let first = Plan { seed: from, is_lying: lying, less };
    match (told, nodes) {
        (true, false) => return tell(&first),
        (true, true) => return tell_nodes(from),
        (false, true) => return if run_nodes(from, seeds) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        (false, false) => {}
    }
    let runs = Runs::of(&first, seeds, |outcome| {
        let Some(violation) = &outcome.violation else { return };
        say(&format!("seed {}: {violation}\n  again: {}", outcome.plan.seed, outcome.plan.command()));
        let smallest = outcome.plan.clone().shrunk(violation.rule);
        if smallest != outcome.plan {
            say(&format!("  smaller: {}", smallest.command()));
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
            "failures": runs.failures.iter().map(|outcome| outcome.plan.seed).collect::<Vec<_>>(),
            "call_hours": hours,
            "wall_s": wall_s,
            "planted_found": planted_found,
            "planted": planted,
        });
        say(&result.to_string());
    }
    let are_nodes_well = lying || run_nodes(from, seeds);
    let is_well = runs.failures.is_empty() && planted_found == planted && are_nodes_well;
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plants every fault; how many of how many were found.
#[cfg(feature = "planted")]
fn plant(from: u64) -> (usize, usize) {
    use supernode_world::planted::{Found, SEEDS_MAX, find_all};

    let found = find_all(from, |Found { fault, by }| match by {
        Some((outcome, seeds)) => {
            let rule = outcome.violation.as_ref().map_or_else(String::new, |found| format!("{:?}", found.rule));
            say(&format!(
                "planted {fault:?}: found by seed {}, of {seeds} that were tried, as {rule}",
                outcome.plan.seed
            ));
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
fn tell(plan: &Plan) -> ExitCode {
    let Outcome { lines, violation, digest, .. } = World::run(plan, true);
    lines.iter().for_each(|line| say(line));
    say(&format!("digest {digest:016x}"));
    match violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            say(&format!("seed {}: {violation}", plan.seed));
            ExitCode::FAILURE
        }
    }
}

/// Worlds of several nodes; whether all that must hold did, and each fault was found.
fn run_nodes(from: u64, seeds: u64) -> bool {
    let begun = Instant::now();
    let (mut failures, mut letters, mut delivered) = (0, 0, 0);
    for seed in from..from.saturating_add(seeds) {
        let outcome = nodes::Nodes::run(seed, false);
        (letters, delivered) = (letters + outcome.letters, delivered + outcome.delivered);
        if let Some(violation) = outcome.violation {
            failures += 1;
            say(&format!(
                "nodes, seed {seed}: {violation}\n  again: cargo xtask world --nodes --told --seeds 1 --from {seed}"
            ));
        }
    }
    let took = begun.elapsed().as_secs_f64();
    say(&format!(
        "{seeds} worlds of nodes, {failures} failures: {letters} letters, {delivered} messages in rooms, in {took:.1} s"
    ));
    let missed = if seeds > 1 { plant_in_nodes(from) } else { 0 };
    failures == 0 && missed == 0
}

/// Plants every fault of nodes; how many were not found.
#[cfg(feature = "planted")]
fn plant_in_nodes(from: u64) -> usize {
    let found = nodes::find_all(from);
    for (fault, by) in &found {
        match by {
            Some((seeds, violation)) => say(&format!("planted {fault:?}: found by the {seeds}. seed: {violation}")),
            None => say(&format!("planted {fault:?}: NOT FOUND in {} seeds", nodes::SEEDS_MAX)),
        }
    }
    found.iter().filter(|(_, by)| by.is_none()).count()
}

/// Built without faults, there are none.
#[cfg(not(feature = "planted"))]
fn plant_in_nodes(_: u64) -> usize {
    0
}

/// One world of nodes, with all that happens there.
fn tell_nodes(seed: u64) -> ExitCode {
    let nodes::Outcome { lines, violation, digest, .. } = nodes::Nodes::run(seed, true);
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
