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
    environment: Vec<(&'static str, &'static str)>,
}

impl Run {
    /// The command `words`.
    pub fn new(words: &[&str]) -> Self {
        Self { words: words.iter().map(|word| (*word).to_owned()).collect(), environment: Vec::new() }
    }

    /// Sets a variable for it.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
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
        command.args(&self.words[1..]).envs(self.environment.iter().copied()).current_dir(root());
        command
    }
}

/// What `cargo metadata` says, with the packages that are built for `target`.
///
/// # Errors
/// If cargo fails.
pub fn metadata(target: &str) -> anyhow::Result<Metadata> {
    let words = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target];
    Metadata::parse(&Run::new(&words).output()?)
}

/// Where `cargo build --release` puts programs.
///
/// # Errors
/// If cargo fails.
pub fn release_directory() -> anyhow::Result<PathBuf> {
    let words = ["cargo", "metadata", "--locked", "--format-version", "1", "--no-deps"];
    let json: serde_json::Value = serde_json::from_str(&Run::new(&words).output()?)?;
    let target = json["target_directory"].as_str().context("cargo metadata: no target_directory")?;
    Ok(Path::new(target).join("release"))
}

/// Builds the programs that people run, in release mode, and says where they are.
///
/// # Errors
/// If the build fails.
pub fn build_programs() -> anyhow::Result<PathBuf> {
    programs_build().status()?;
    release_directory()
}

/// The command that builds them.
pub fn programs_build() -> Run {
    let packages = ["-p", "supernode-server", "-p", "supernode-client"];
    Run::new(&[&["cargo", "build", "--release", "--locked", "--bins"][..], &packages].concat())
}

/// Reads a file of the workspace, or says that it is missing.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &str) -> anyhow::Result<String> {
    let text: io::Result<String> = std::fs::read_to_string(root().join(path));
    text.with_context(|| path.to_owned())
}
