//! A whole relay over loopback: its sockets, kernel included, with the load generator in the same process. `cargo bench
//! -p supernode-benches --bench loopback` prints delays and CPU time by the clock; `cargo test` runs it briefly and looks
//! whether everything arrives. What one relay costs alone, on a core of its own, is `supernode-load`'s to say.

#![allow(clippy::print_stdout, reason = "a bench for people to read")]

use std::time::Duration;

use anyhow::{Context, ensure};
use supernode_benches::load::{
    report::Report,
    run::{Options, run},
    scenario::Scenario,
};
use supernode_server::core::limits::Limits;
use supernode_testkit::{Door, Relay, Setup};

/// Name, scenario and batching window in µs.
const WORKS: &[(&str, &str, u64)] = &[
    ("20 pairs, 50/s", "pairs = 20", 0),
    ("20 pairs, 50/s", "pairs = 20", 500),
    ("a room of 20, 50/s", "shape = \"rooms\"\nmembers = 20", 3000),
    ("1 to 100, 50/s", "shape = \"webinar\"\nlisteners = 100", 500),
];

fn main() -> anyhow::Result<()> {
    // cargo bench says so, cargo test does not.
    let measured = std::env::args().any(|argument| argument == "--bench");
    println!(
        "{:<20} {:>9} {:>12} {:>8} {:>8} {:>22}",
        "work", "window µs", "delivered/s", "p50 ms", "p99 ms", "CPU µs, both together"
    );
    for (name, scenario, window_us) in WORKS {
        let report = relayed(scenario, *window_us, if measured { 3.0 } else { 0.5 })?;
        let cost = report.relay.cpu_us_per_delivered.unwrap_or_default();
        let (rate, delay) = (report.objects.delivered_per_s, report.delay_ms);
        println!("{name:<20} {window_us:>9} {rate:>12.0} {:>8.2} {:>8.2} {cost:>22.2}", delay.p50, delay.p99);
        let objects = &report.objects;
        ensure!(objects.delivered > 0 && objects.lost == 0, "{name}: {} of {} lost", objects.lost, objects.expected);
    }
    Ok(())
}

/// Starts a relay with one shard, runs the scenario and ends it.
fn relayed(scenario: &str, window_us: u64, hold_s: f64) -> anyhow::Result<Report> {
    let batch_window = Duration::from_micros(window_us);
    let relay = Relay::of(Setup { batch_window, ..Setup::new(1, Door::Everybody, Limits::default()) });
    let text =
        format!("ramp_s = 0.2\nwarm_up_s = 0.3\nhold_s = {hold_s}\nlinger_s = 0.5\nobject_bytes = 160\n{scenario}");
    let options = Options {
        relay: relay.address,
        pin: relay.pin,
        token: String::new(),
        scenario: Scenario::parse("loopback", &text, &[])?,
        relay_pid: Some(std::process::id()),
        metrics: None,
        scrape_every: None,
        begin_at_unix_s: None,
        command_line: Vec::new(),
    };
    run(&options, &mut |_| {}).context("no result")
}
