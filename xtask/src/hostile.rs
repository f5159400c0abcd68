//! `cargo xtask hostile`: attacks on a relay, each with a call beside it.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::workspace::{self, Run};

/// What it is asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Fewer attacks, and shorter ones.
    pub quick: bool,
    /// The rows as JSON, last.
    pub json: bool,
    /// Only these.
    pub only: Vec<String>,
}

/// Builds the attacks as step `test` does, so that there they have been built already.
const ATTACKS: &[&str] = &["cargo", "test", "--workspace", "--locked", "--no-run", "--test", "attacks"];
/// What the client in Python needs.
const REQUIREMENTS: &str = "hostile/python/requirements.txt";

/// Builds the relay, the attacks and the environment of those in Python, and runs them; whether all held.
///
/// # Errors
/// If something cannot be built.
pub fn run(options: &Options) -> anyhow::Result<bool> {
    let release = workspace::build_programs()?;
    Run::new(ATTACKS).status()?;
    let python = python(&release)?;
    let attacks = release.with_file_name("debug").join("supernode-hostile");
    let (attacks, relay) = (attacks.to_string_lossy(), release.join("supernode"));
    let (relay, python) = (relay.to_string_lossy(), python.to_string_lossy());
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

/// An interpreter that has aioquic: in an environment of its own below `target`, made once for each list of what it needs.
fn python(release: &Path) -> anyhow::Result<PathBuf> {
    let environment = release.with_file_name("hostile-python");
    let (python, stamp) = (environment.join("bin/python"), environment.join("requirements.txt"));
    let wanted = workspace::read(REQUIREMENTS)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    let path = environment.to_string_lossy();
    Run::new(&["python3", "-m", "venv", "--clear", &path]).status().context("python3 and its module venv are needed")?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS];
    Run::new(&[&[&*python.to_string_lossy()], &install[..]].concat())
        .status()
        .context("aioquic comes from PyPI, or from an index that PIP_INDEX_URL names; without it there is no second QUIC")?;
    std::fs::write(stamp, wanted)?;
    Ok(python)
}
