//! `cargo xtask hostile`: attacks on a relay, each with a call beside it.

use std::path::PathBuf;

use crate::{
    deploy::tools,
    workspace::{self, Profile, Run},
};

/// What it is asked for.
#[derive(Debug)]
pub struct Options {
    /// How the relay that is attacked is built.
    pub relay: Profile,
    /// Fewer attacks, and shorter ones.
    pub quick: bool,
    /// The rows as JSON, last.
    pub json: bool,
    /// Only these.
    pub only: Vec<String>,
}

/// A QUIC and a TLS that share no line with ours, from PyPI.
const ANOTHER_STACK: &[&str] = &["aioquic==1.7.2"];

/// The directory of an interpreter that has them.
///
/// # Errors
/// If they cannot be installed.
pub(crate) fn another_stack() -> anyhow::Result<PathBuf> {
    tools::python("hostile-tools", ANOTHER_STACK)
}

/// Builds the relay, the attacks and the environment of those in Python, and runs them; whether all held.
///
/// # Errors
/// If something cannot be built.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let relay = options.relay.built()?.join("supernode");
    workspace::as_for_tests().status()?;
    tools::ensure("taskset", "util-linux")?;
    let python = another_stack()?.join("python");
    let attacks = Profile::Debug.directory()?.join("supernode-hostile");
    let (attacks, relay, python) = (attacks.to_string_lossy(), relay.to_string_lossy(), python.to_string_lossy());
    let mut words = vec![&*attacks, "run", "--relay", &relay, "--python", &python];
    words.extend(options.quick.then_some("--quick"));
    words.extend(options.json.then_some("--json"));
    let only = options.only.join(",");
    if !only.is_empty() {
        words.extend(["--only", &only]);
    }
    match Run::new(&words).status() {
        Ok(()) => Ok(true),
        Err(error) => {
            eprintln!("{error:#}");
            Ok(false)
        }
    }
}
