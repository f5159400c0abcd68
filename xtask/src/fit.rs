//! `cargo xtask bench fit`: what a packet and what an object cost, out of runs with different numbers of both.

use std::{fs, path::PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

/// The part that we read of a line of `supernode-load run --json`.
#[derive(Deserialize)]
struct Line {
    valid: bool,
    scenario: Scenario,
    relay: Relay,
}

#[derive(Deserialize)]
struct Scenario {
    about: String,
}

#[derive(Deserialize)]
struct Relay {
    busy: Option<f64>,
    datagrams_per_s: Option<f64>,
    delivered_per_s: Option<f64>,
}

/// One run, in a second: UDP datagrams in and out, objects delivered, CPU time in µs.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    packets: f64,
    objects: f64,
    cpu_us: f64,
}

/// Reads the results, fits, and prints the costs with what they leave unexplained.
///
/// # Errors
/// If a file cannot be read, a result lacks what is fitted, or the runs are too much alike.
pub fn run(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    for file in files {
        let name = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        for line in text.lines().filter(|line| line.starts_with('{')) {
            let Line { valid, scenario, relay } = serde_json::from_str(line).with_context(|| format!("{name}"))?;
            let values = [relay.datagrams_per_s, relay.delivered_per_s, relay.busy];
            let [Some(packets), Some(objects), Some(busy)] = values else {
                bail!("{name}: measure with --relay-pid and --metrics-url");
            };
            if !valid {
                bail!("{name}: holds a result that is invalid");
            }
            samples.push((scenario.about, Sample { packets, objects, cpu_us: busy * 1e6 }));
        }
    }
    let only: Vec<Sample> = samples.iter().map(|(_, sample)| *sample).collect();
    let [packet, object] = fitted(&only).context("two runs at least, with different numbers of packets per object")?;
    println!("a packet in or out {packet:.2} µs, a delivered object {object:.2} µs\n");
    println!("| run | packets/s | objects/s | CPU µs/s | fitted | off by |\n|---|---|---|---|---|---|");
    for (about, Sample { packets, objects, cpu_us }) in samples {
        let fit = packet * packets + object * objects;
        let off = (fit / cpu_us - 1.0) * 100.0;
        println!("| {about} | {packets:.0} | {objects:.0} | {cpu_us:.0} | {fit:.0} | {off:+.1} % |");
    }
    Ok(())
}

/// The costs with the least squares of relative errors, so that a quiet run counts as much as a busy one: the normal
/// equations of `1 = packet x p/c + object x o/c`.
fn fitted(samples: &[Sample]) -> Option<[f64; 2]> {
    let shares: Vec<[f64; 2]> =
        samples.iter().map(|run| [run.packets / run.cpu_us, run.objects / run.cpu_us]).collect();
    let sum = |term: fn(&[f64; 2]) -> f64| shares.iter().map(term).sum::<f64>();
    let (pp, po, oo) = (sum(|[p, _]| p * p), sum(|[p, o]| p * o), sum(|[_, o]| o * o));
    let (p, o) = (sum(|[p, _]| *p), sum(|[_, o]| *o));
    let determinant = pp * oo - po * po;
    // Nearly the same number of packets per object in every run: both costs would be noise.
    (determinant > 1e-6 * pp * oo).then(|| [(p * oo - o * po) / determinant, (o * pp - p * po) / determinant])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(packets: f64, objects: f64) -> Sample {
        Sample { packets, objects, cpu_us: 5.0 * packets + 0.25 * objects }
    }

    #[test]
    fn the_costs_that_made_the_runs_are_found_and_runs_that_are_alike_tell_nothing() {
        let costs = fitted(&[sample(80_000.0, 40_000.0), sample(9_000.0, 19_000.0), sample(10_000.0, 95_000.0)]);
        let [packet, object] = costs.expect("they differ");
        assert!((packet - 5.0).abs() < 1e-6 && (object - 0.25).abs() < 1e-6, "{packet} {object}");
        assert_eq!(fitted(&[sample(2.0, 1.0), sample(4.0, 2.0), sample(200.0, 100.0)]), None);
        assert_eq!(fitted(&[]), None);
    }
}
