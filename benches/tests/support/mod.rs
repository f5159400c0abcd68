//! A relay in this process for the load generator, and what must hold of it when everybody has left.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_benches::load::{
    report::Report,
    run::{Options, RunError, run},
    scenario::Scenario,
};
use supernode_proto::{close::CloseCode, identity::RelayPin};
use supernode_server::{
    control::{certificate::Certificate, state_dir::StateDir, tls},
    core::{Admit, Applicant, Grant, Voucher, directory::Population, ledger::Ledger, limits::Limits},
    shard::{self, Census},
};

/// How long it may take until everybody is forgotten.
const PATIENCE: Duration = Duration::from_secs(15);

/// Admits everybody, or nobody.
struct Door {
    open: bool,
}

impl Admit for Door {
    fn admit(&self, _: &Applicant, _: u64) -> Result<Grant, CloseCode> {
        if self.open { Ok(Grant::without_end(Voucher::Nobody)) } else { Err(CloseCode::NOT_ADMITTED) }
    }
}

pub(crate) struct Relay {
    running: Option<shard::Running>,
    pub(crate) pin: RelayPin,
    _state: tempfile::TempDir,
}

impl Relay {
    pub(crate) fn start(open: bool, limits: Limits) -> Self {
        Self::with_shards(1, open, limits)
    }

    pub(crate) fn with_shards(shards: usize, open: bool, limits: Limits) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let keys =
            StateDir::create(&state.path().join("state")).and_then(|state| state.keys_or_create()).expect("keys");
        let pin = tls::relay_pin(&keys);
        let running = shard::spawn(shard::Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            shards,
            batch_window: Duration::ZERO,
            tls: tls::quic_server_config(&Certificate::self_signed(&keys).expect("a certificate"))
                .expect("a TLS configuration"),
            pin,
            reset_key: keys.reset_key,
            admission: Arc::new(Door { open }),
            limits,
        });
        Self { running: Some(running.expect("a relay")), pin, _state: state }
    }

    pub(crate) fn running(&self) -> &shard::Running {
        self.running.as_ref().expect("it runs")
    }

    /// Runs a short scenario.
    pub(crate) fn load(&self, scenario: &str) -> Result<Report, RunError> {
        let text = format!("ramp_s = 0.1\nwarm_up_s = 0.3\nhold_s = 1.0\nlinger_s = 0.5\n{scenario}");
        self.run(&text, &[])
    }

    /// Runs a scenario. A busy machine makes the generator late; what is checked here is that nothing is lost or miscounted.
    pub(crate) fn run(&self, text: &str, overrides: &[&str]) -> Result<Report, RunError> {
        let patient = ["validity.lag_p99_ms_max=1000", "validity.busy_max=1.0"];
        let overrides: Vec<String> = patient.iter().chain(overrides).map(|given| (*given).to_owned()).collect();
        let options = Options {
            relay: self.running().local_addr(),
            pin: self.pin,
            token: String::new(),
            scenario: Scenario::parse("test", text, &overrides).expect("a scenario"),
            relay_pid: Some(std::process::id()),
            metrics: None,
            scrape_every: None,
            command_line: Vec::new(),
        };
        run(&options, &mut |_| {})
    }

    /// The ledgers of all shards, as far as the tests look, added up.
    pub(crate) fn ledger(&self) -> Ledger {
        let mut sum = Ledger::default();
        for counters in self.running().counters() {
            let (_, ledger) = counters.snapshot();
            sum.objects_in += ledger.objects_in;
            sum.offered += ledger.offered;
            sum.delivered += ledger.delivered;
            sum.dropped.iter_mut().zip(ledger.dropped).for_each(|(sum, dropped)| *sum += dropped);
        }
        sum
    }

    /// Everybody has left: every table is empty, and every object is in exactly one bin of the ledger.
    pub(crate) fn assert_empty(&self) {
        let nothing = vec![Census::default(); self.running().counters().len()];
        let until = Instant::now() + PATIENCE;
        loop {
            let (people, tables) = (self.running().directory().population(), self.running().handle().census());
            let ledger = self.ledger();
            if people == Population::default() && tables == nothing && ledger.offered == ledger.settled() {
                return;
            }
            assert!(Instant::now() < until, "{people:?}, {tables:?}, {ledger:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.handle().drain(Duration::ZERO, Duration::ZERO);
            running.join();
        }
    }
}
