//! `cargo xtask sound`: `supernode-call` with microphone and loudspeaker, which the gate does not build.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::bail;

use crate::workspace::Run;

/// What is missing to build and try it, as Debian installs it.
const INSTALL: &str = "apt-get install --no-install-recommends libasound2-dev libopus-dev pkg-config pulseaudio \
    pulseaudio-utils libasound2-plugins";
/// What a sound server of our own is made of.
const PROGRAMS: &[&str] = &["/usr/bin/pulseaudio", "/usr/bin/pacat", "/usr/bin/parec"];
/// By which ALSA reaches it, somewhere below there.
const LIBRARIES: &str = "/usr/lib";
const PLUGIN: &str = "alsa-lib/libasound_module_pcm_pulse.so";

/// How what is missing is installed; `None` if nothing is.
pub fn missing() -> Option<&'static str> {
    let headers = Command::new("pkg-config").args(["--exists", "alsa", "opus"]).stdout(Stdio::null()).status();
    let has_headers = headers.is_ok_and(|status| status.success());
    let has_programs = PROGRAMS.iter().all(|program| Path::new(program).exists());
    let folders = fs::read_dir(LIBRARIES).into_iter().flatten().flatten();
    let has_plugin = folders.map(|folder| folder.path().join(PLUGIN)).any(|plugin| plugin.exists());
    (!has_headers || !has_programs || !has_plugin).then_some(INSTALL)
}

/// Lints and tests the program as it is with its devices.
///
/// # Errors
/// If something is missing or fails.
pub fn run() -> anyhow::Result<()> {
    if let Some(install) = missing() {
        bail!("NOT DONE: something to build it or to try it is missing. On Debian: {install}");
    }
    // All that is built at once has the same features, as in the gate.
    let all = ["--workspace", "--locked", "--features", "supernode-client/sound"];
    let (lints, tests) = (["--all-targets", "--", "-D", "warnings"], ["--bin", "supernode-call", "--test", "sound"]);
    Run::new(&[&["cargo", "clippy"][..], &all, &lints].concat()).status()?;
    Run::new(&[&["cargo", "test"][..], &all, &tests].concat()).status()
}
