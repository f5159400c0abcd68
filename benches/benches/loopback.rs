//! A whole relay over loopback: its sockets, kernel included, with the load generator in the same process. `cargo bench
//! -p supernode-benches --bench loopback` prints delays and CPU time by the clock; `cargo test` runs it briefly and looks
//! whether everything arrives. What one relay costs alone, on a core of its own, is `supernode-load`'s to say.

#![allow(clippy::print_stdout, reason = "a bench for people to read")]

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use supernode_benches::load::{
    report::Report,
    run::{Options, run},
    scenario::Scenario,
};
use supernode_proto::close::CloseCode;
use supernode_server::{
    control::{certificate::Certificate, state_dir::StateDir, tls},
    core::{Admit, Applicant, Grant, Voucher, limits::Limits},
    shard,
};

/// Name, scenario and batching window in µs.
const WORKS: &[(&str, &str, u64)] = &[
    ("20 pairs, 50/s", "pairs = 20", 0),
    ("20 pairs, 50/s", "pairs = 20", 500),
    ("a room of 20, 50/s", "shape = \"rooms\"\nmembers = 20", 3000),
    ("1 to 100, 50/s", "shape = \"webinar\"\nlisteners = 100", 500),
];

struct Everybody;

impl Admit for Everybody {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        Ok(Grant::without_end(Voucher::Nobody))
    }
}

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
    let state = tempfile::tempdir()?;
    let keys = StateDir::create(&state.path().join("state"))?.keys_or_create()?;
    let pin = tls::relay_pin(&keys);
    let running = shard::spawn(shard::Config {
        listen: "127.0.0.1:0".parse()?,
        shards: 1,
        batch_window: Duration::from_micros(window_us),
        tls: tls::quic_server_config(&Certificate::self_signed(&keys)?)?,
        pin,
        reset_key: keys.reset_key,
        admission: Arc::new(Everybody),
        limits: Limits::default(),
    })?;
    let text =
        format!("ramp_s = 0.2\nwarm_up_s = 0.3\nhold_s = {hold_s}\nlinger_s = 0.5\nobject_bytes = 160\n{scenario}");
    let options = Options {
        relay: running.local_addr(),
        pin,
        token: String::new(),
        scenario: Scenario::parse("loopback", &text, &[])?,
        relay_pid: Some(std::process::id()),
        metrics: None,
        scrape_every: None,
        command_line: Vec::new(),
    };
    let report = run(&options, &mut |_| {}).context("no result");
    running.handle().drain(Duration::ZERO, Duration::ZERO);
    running.join();
    report
}
