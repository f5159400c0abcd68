//! The programs: ours and the load clients are built, the peers are installed into `target/peers/bin`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use super::{
    progress,
    works::{Relay, Run},
};
use crate::workspace::{self, Profile};

/// The versions that are measured.
const IROH_RELAY: &str = "1.4.1";
const MOQ_RELAY: &str = "0.17.10";
const COTURN: &str = "4.6.1";

/// Where the programs are.
pub(super) struct Programs {
    /// Ours.
    pub(super) release: PathBuf,
    /// The load clients for peers.
    pub(super) clients: PathBuf,
    /// The peers, but for coturn, which the system has.
    pub(super) peers: PathBuf,
    /// For state, certificates and logs.
    pub(super) work: PathBuf,
}

impl Programs {
    /// Builds and installs what these runs need.
    ///
    /// # Errors
    /// If something cannot be built or installed, with what to do.
    pub(super) fn ready<'a>(runs: impl Iterator<Item = &'a Run>) -> anyhow::Result<Self> {
        let release = Profile::Release.directory()?;
        let target = release.parent().context("a target directory has a parent")?.join("peers");
        let programs =
            Self { clients: target.join("release"), peers: target.join("bin"), work: target.join("work"), release };
        fs::create_dir_all(&programs.work)?;
        let ours = ["build", "--release", "--locked", "--bins", "-p", "supernode-server", "-p", "supernode-benches"];
        cargo(&ours, None)?;
        let relays: Vec<Relay> = runs.map(|run| run.relay).collect();
        let uses = |wanted: fn(&Relay) -> bool| relays.iter().any(wanted);
        if uses(|relay| matches!(relay, Relay::Iroh)) {
            install(&programs.peers, &target, "iroh-relay", IROH_RELAY, &["--locked", "--features", "server"])?;
        }
        if uses(|relay| matches!(relay, Relay::Moq { .. })) {
            // Without --locked: the lock file that it comes with names a version that was withdrawn.
            install(&programs.peers, &target, "moq-relay", MOQ_RELAY, &[])?;
        }
        if uses(|relay| matches!(relay, Relay::Coturn { .. })) {
            install_coturn()?;
        }
        let clients: BTreeSet<&str> = relays.iter().filter_map(|relay| relay.client()).collect();
        if !clients.is_empty() {
            let words = ["build", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml"];
            let packages: Vec<&str> = clients.iter().flat_map(|name| ["-p", *name]).collect();
            cargo(&[&words[..], &packages].concat(), Some(&target))?;
        }
        if uses(|relay| matches!(relay, Relay::Iroh)) {
            programs.make_certificate()?;
        }
        Ok(programs)
    }

    /// iroh-relay does not make its own; this one is for 127.0.0.1 and known to its clients.
    fn make_certificate(&self) -> anyhow::Result<()> {
        let mut command = Command::new(self.clients.join("peer-iroh"));
        let status = command.args(["certificate", "--directory"]).arg(&self.work).status().context("peer-iroh")?;
        if !status.success() {
            bail!("peer-iroh certificate: {status}");
        }
        Ok(())
    }
}

fn cargo(words: &[&str], target: Option<&Path>) -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(words).current_dir(workspace::root());
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", target);
    }
    let status = command.status().context("cargo")?;
    if !status.success() {
        bail!("cargo {}: {status}", words.join(" "));
    }
    Ok(())
}

/// Installs a program of crates.io, unless it is there in this version.
fn install(peers: &Path, target: &Path, name: &str, version: &str, options: &[&str]) -> anyhow::Result<()> {
    if version_of(&peers.join(name))?.is_some_and(|found| found == version) {
        return Ok(());
    }
    progress(&format!("{name} {version} is not in {}: it is installed from crates.io", peers.display()));
    let root = target.to_string_lossy();
    let words = ["install", name, "--version", version, "--force", "--root", &root];
    cargo(&[&words[..], options].concat(), Some(target))
}

/// coturn comes from Debian.
fn install_coturn() -> anyhow::Result<()> {
    if version_of(Path::new("turnserver"))?.is_some_and(|found| found == COTURN) {
        return Ok(());
    }
    let install = "apt-get install coturn";
    progress(&format!("coturn {COTURN} is not installed: {install}"));
    let status = Command::new("apt-get").args(["install", "--yes", "--no-install-recommends", "coturn"]).status();
    match version_of(Path::new("turnserver"))? {
        Some(found) if found == COTURN => Ok(()),
        Some(found) => bail!("coturn {found} is installed, and {COTURN} (Debian 12) is compared with"),
        None => bail!("coturn could not be installed ({status:?}): as root, {install}"),
    }
}

/// The version that a program says it has: the last word of the first line of `--version`.
pub(super) fn version_of(program: &Path) -> anyhow::Result<Option<String>> {
    match Command::new(program).arg("--version").output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        output => {
            let output = output.with_context(|| program.display().to_string())?;
            Ok(version_in(&String::from_utf8_lossy(&output.stdout)))
        }
    }
}

fn version_in(text: &str) -> Option<String> {
    text.lines().next()?.split_whitespace().last().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_last_word_of_the_first_line() {
        assert_eq!(version_in("iroh-relay 1.4.1\n"), Some("1.4.1".to_owned()));
        assert_eq!(version_in("4.6.1\nmore"), Some("4.6.1".to_owned()));
        assert_eq!(version_in(""), None);
        assert_eq!(version_of(Path::new("/supernode/no-such-program")).expect("it is only missing"), None);
    }
}
