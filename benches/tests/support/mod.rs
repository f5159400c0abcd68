//! A short load on a relay in this process.

use supernode_benches::load::{
    report::Report,
    run::{Options, Progress, RunError, run},
    scenario::Scenario,
};
use supernode_testkit::Relay;

/// Runs a short scenario.
pub(crate) fn load(relay: &Relay, scenario: &str) -> Result<Report, RunError> {
    load_seen(relay, scenario, &mut |_| {})
}

/// The same with somebody who looks on.
pub(crate) fn load_seen(relay: &Relay, scenario: &str, observe: &mut dyn FnMut(&Progress)) -> Result<Report, RunError> {
    let hold = if scenario.contains("hold_s") { "" } else { "hold_s = 1.0\n" };
    let text = format!("ramp_s = 0.1\nwarm_up_s = 0.3\n{hold}linger_s = 0.5\n{scenario}");
    // A busy machine makes the generator late; what is checked here is that nothing is lost or miscounted.
    let patient = ["validity.lag_p99_ms_max=1000", "validity.busy_max=1.0"].map(str::to_owned);
    let options = Options {
        relay: relay.address,
        pin: relay.pin,
        token: String::new(),
        scenario: Scenario::parse("test", &text, &patient).expect("a scenario"),
        relay_pid: Some(std::process::id()),
        metrics: None,
        scrape_every: None,
        begin_at_unix_s: None,
        command_line: Vec::new(),
    };
    run(&options, observe)
}
