//! A short load on a relay in this process.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use supernode_benches::load::{
    report::Report,
    run::{Options, RunError, run},
    scenario::Scenario,
};
use supernode_testkit::Relay;

/// Runs a short scenario.
pub(crate) fn load(relay: &Relay, scenario: &str) -> Result<Report, RunError> {
    let text = format!("ramp_s = 0.1\nwarm_up_s = 0.3\nhold_s = 1.0\nlinger_s = 0.5\n{scenario}");
    run_scenario(relay, &text, &[])
}

/// Runs a scenario. A busy machine makes the generator late; what is checked here is that nothing is lost or miscounted.
pub(crate) fn run_scenario(relay: &Relay, text: &str, overrides: &[&str]) -> Result<Report, RunError> {
    let patient = ["validity.lag_p99_ms_max=1000", "validity.busy_max=1.0"];
    let overrides: Vec<String> = patient.iter().chain(overrides).map(|given| (*given).to_owned()).collect();
    let options = Options {
        relay: relay.address,
        pin: relay.pin,
        token: String::new(),
        scenario: Scenario::parse("test", text, &overrides).expect("a scenario"),
        relay_pid: Some(std::process::id()),
        metrics: None,
        scrape_every: None,
        command_line: Vec::new(),
    };
    run(&options, &mut |_| {})
}
