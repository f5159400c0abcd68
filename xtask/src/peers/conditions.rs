//! Where and with what was measured, for whoever reads the figures.

use std::fs;

use serde::Serialize;

use super::{
    programs::{Programs, version_of},
    relay::{CLIENT_CORE, RELAY_CORE},
};

/// The machine and the programs.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    /// Its processor, caches and speed, in one line.
    machine: String,
    cores: usize,
    kernel: String,
    /// proc(5)'s, before the first run: whatever else was going on.
    load_average: String,
    /// The tree that ours was built from.
    commit: String,
    /// Of each program that is there.
    versions: Vec<(&'static str, String)>,
    rounds: u32,
    hold_s: f64,
}

impl Conditions {
    /// As they are.
    pub(super) fn now(programs: &Programs, rounds: u32, hold_s: f64) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let of_program = [
            ("supernode", programs.release.join("supernode")),
            ("coturn", "turnserver".into()),
            ("iroh-relay", programs.peers.join("iroh-relay")),
            ("moq-relay", programs.peers.join("moq-relay")),
        ];
        let versions = of_program.into_iter().filter_map(|(name, path)| Some((name, version_of(&path).ok()??)));
        let commit = std::process::Command::new("git").args(["describe", "--always", "--dirty"]).output();
        Self {
            machine: machine(programs),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average: read("/proc/loadavg").split_whitespace().take(3).collect::<Vec<_>>().join(" "),
            commit: commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default(),
            versions: versions.collect(),
            rounds,
            hold_s,
        }
    }

    /// A paragraph of Markdown.
    pub(super) fn paragraph(&self) -> String {
        let Self { machine, cores, kernel, load_average, commit, versions, rounds, hold_s } = self;
        let versions: Vec<String> = versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{rounds} rounds of {hold_s} s each, relay on core {RELAY_CORE}, clients on core {CLIENT_CORE} of {cores}; \
             {machine}, Linux {kernel}, load average before {load_average}; {}; our tree {commit}. Medians, smallest \
             and largest in brackets; a ratio is of two runs of the same round.\n",
            versions.join(", ")
        )
    }
}

/// What the figures depend on besides the programs, on the relay's core.
fn machine(programs: &Programs) -> String {
    let load = programs.release.join("supernode-load");
    let output = std::process::Command::new("taskset").args(["-c", RELAY_CORE]).arg(load).arg("machine").output();
    let said = output.ok().filter(|output| output.status.success());
    said.map_or("unknown machine".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
