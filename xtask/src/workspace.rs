//! Where the workspace is, and how its commands are run.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::checks::supply::Metadata;

/// The workspace's root: the directory above this crate's.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_owned(), Path::to_owned)
}

/// A command to run in the workspace's root, and how it reads.
pub struct Run {
    words: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Run {
    /// The command `words`.
    pub fn new(words: &[&str]) -> Self {
        Self { words: words.iter().map(|word| (*word).to_owned()).collect(), environment: Vec::new() }
    }

    /// Sets a variable for it.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// As it would be typed.
    pub fn shown(&self) -> String {
        let set = self.environment.iter().map(|(name, value)| format!("{name}='{value}'"));
        set.chain(self.words.iter().cloned()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it with our own input and output.
    ///
    /// # Errors
    /// If it cannot start or fails; the message names it.
    pub fn status(&self) -> anyhow::Result<()> {
        let status = self.command().status().with_context(|| self.shown())?;
        if status.success() { Ok(()) } else { bail!("{}: {status}", self.shown()) }
    }

    /// Runs it and gives what it wrote to standard output; errors go where ours go.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn output(&self) -> anyhow::Result<String> {
        let output = self.command().stderr(std::process::Stdio::inherit()).output().with_context(|| self.shown())?;
        if !output.status.success() {
            bail!("{}: {}", self.shown(), output.status);
        }
        String::from_utf8(output.stdout).with_context(|| self.shown())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(root());
        command
    }
}

/// What `cargo metadata` says, with the packages that are built for `target`, also by features that are off: whoever turns one
/// on builds on them too.
///
/// # Errors
/// If cargo fails.
pub fn metadata(target: &str) -> anyhow::Result<Metadata> {
    let words =
        ["cargo", "metadata", "--locked", "--all-features", "--format-version", "1", "--filter-platform", target];
    Metadata::parse(&Run::new(&words).output()?)
}

/// How programs are built; each way has a directory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Not optimised, but for what they depend on.
    Debug,
    /// As the gate runs them: optimised, each crate by itself.
    Gate,
    /// As people run them.
    Release,
}

impl Profile {
    /// Where cargo puts programs that are built so.
    ///
    /// # Errors
    /// If cargo fails.
    pub fn directory(self) -> anyhow::Result<PathBuf> {
        Ok(target_directory()?.join(match self {
            Self::Debug => "debug",
            Self::Gate => "gate",
            Self::Release => "release",
        }))
    }

    /// The command that builds the programs that people run, and with them whatever else is built in one go: another choice of
    /// packages would choose other features of what they share, and make it again.
    pub fn build(self) -> Run {
        let (profile, beside): (&[&str], _) = match self {
            Self::Debug => (&[], "xtask"),
            Self::Gate => (&["--profile", "gate"], "supernode-works"),
            Self::Release => (&["--release"], ""),
        };
        let build = ["cargo", "build", "--locked", "--bins"];
        let packages = ["-p", "supernode-server", "-p", "supernode-client", "-p", beside];
        let packages = if beside.is_empty() { &packages[..4] } else { &packages };
        Run::new(&[&build[..], profile, packages].concat())
    }

    /// Builds them, and says where they are.
    ///
    /// # Errors
    /// If the build fails.
    pub fn built(self) -> anyhow::Result<PathBuf> {
        self.build().status()?;
        self.directory()
    }
}

/// Where cargo puts all that it makes.
///
/// # Errors
/// If cargo fails.
pub fn target_directory() -> anyhow::Result<PathBuf> {
    let words = ["cargo", "metadata", "--locked", "--format-version", "1", "--no-deps"];
    let json: serde_json::Value = serde_json::from_str(&Run::new(&words).output()?)?;
    json["target_directory"].as_str().map(PathBuf::from).context("cargo metadata: no target_directory")
}

/// The command that builds unoptimised programs, and the one that upgrades a relay, with the features that step `compile` has
/// built them with (those of tests, which an example brings in): after it, this takes no time.
pub fn as_for_tests() -> Run {
    let build = ["cargo", "build", "--workspace", "--locked", "--example", "call"];
    let programs = ["supernode", "supernode-call", "supernode-hostile", "supernode-load", "supernode-upgrade"];
    Run::new(&[&build[..], &programs.map(|program| ["--bin", program]).concat()].concat())
}

/// Reads a file of the workspace, or says that it is missing.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &str) -> anyhow::Result<String> {
    let text: io::Result<String> = std::fs::read_to_string(root().join(path));
    text.with_context(|| path.to_owned())
}
