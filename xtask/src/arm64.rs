//! `cargo xtask arm64`: the relay on another kind of processor. It is built here for 64-bit Arm and run by qemu, which emulates the
//! processor's instructions and leaves system calls to this machine's kernel.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::{
    demo::{Interrupted, Process},
    workspace::{self, Profile, Run},
};

/// The target as rustc names it.
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Debian's C compiler for it, and its emulator.
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";
/// A C library for it that is installed as this machine's own is, and the cross compiler's, which is taken where there is no other:
/// where both are there, the loader of the second takes the libc of the first, and a program hangs as it starts a thread.
const LOADER: &str = "/lib/ld-linux-aarch64.so.1";
const CROSS_LIBRARY: &str = "/usr/aarch64-linux-gnu";
/// Where Debian's own toolchain is: the standard library for a foreign processor comes with it as a package, where rustup's
/// server is out of reach.
const DEBIAN: &str = "/usr/bin";
/// What is missing to build and run it, as Debian installs it.
const INSTALL: &str = "dpkg --add-architecture arm64 && apt-get update && apt-get install --no-install-recommends \
    qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross rustc-web cargo-web libstd-rust-web-dev:arm64";
/// Whose short tests are run.
const PACKAGES: &[&str] = &[
    "supernode-proto",
    "supernode-keys",
    "supernode-session",
    "supernode-e2ee",
    "supernode-calls",
    "supernode-server",
];
/// Beside unit tests: the golden bytes of the wire, vectors of key exchanges, the core under random people, and the relay with
/// real sockets.
const TESTS: &[&str] = &["golden", "exchange", "core", "relay"];
/// What the emulator does not pass on to the kernel, whose it is and not the processor's: the program that steers packets to
/// shards, and the count of packets that a full socket lost. The relay does without either and says so. And what needs more
/// packets in its time than are made here.
const NOT_EMULATED: &[&str] = &[
    "the_kernel_takes_the_steering_program",
    "what_a_full_buffer_loses_is_counted",
    "who_never_takes_up_the_relay_s_new_keys_is_closed_and_nobody_else",
];
/// Random tests have few cases: an emulated processor takes twenty times as long.
const CASES: &str = "16";
/// How long the emulated relay may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Calls of clients that are not emulated, few and slow: whatever is late is the emulator's, and a relay that is too slow drops.
const CALLS: &[&str] = &[
    "pairs=2",
    "objects_per_second=5",
    "warm_up_s=5",
    "hold_s=10",
    "linger_s=5",
    "slo=[\"loss < 20%\", \"duplicates == 0\", \"sessions_lost == 0\"]",
    "validity.busy_max=1.0",
    "validity.lag_p99_ms_max=1000",
];

/// What a ready relay prints.
#[derive(Deserialize)]
struct Ready {
    invite: String,
}

/// A toolchain that builds for it, and where it puts what it has built.
struct Toolchain {
    cargo: String,
    rustc: String,
    target_directory: PathBuf,
}

/// Whether everything is there that this needs; if not, how it is installed.
///
/// # Errors
/// If cargo fails.
pub fn missing() -> anyhow::Result<Option<&'static str>> {
    Ok(Toolchain::find()?.is_none().then_some(INSTALL))
}

/// Builds the relay, runs the short tests, and lets clients of this machine call each other through the relay.
///
/// # Errors
/// If something is missing, is not built or fails.
pub fn run() -> anyhow::Result<()> {
    let Some(toolchain) = Toolchain::find()? else {
        bail!("something to build for 64-bit Arm or to run it is missing. On Debian: {INSTALL}");
    };
    let packages: Vec<&str> = PACKAGES.iter().flat_map(|package| ["-p", package]).collect();
    let tests: Vec<&str> = TESTS.iter().flat_map(|test| ["--test", test]).collect();
    // All that is built at once has the same features.
    let what = [&packages[..], &["--lib", "--bin", "supernode"], &tests].concat();
    let skipped: Vec<&str> = NOT_EMULATED.iter().flat_map(|test| ["--skip", test]).collect();
    toolchain.cargo("test", &[&what[..], &["--"], &skipped].concat()).status()?;
    toolchain.cargo("build", &what).status()?;
    workspace::as_for_tests().status()?;
    let relay = toolchain.target_directory.join(TARGET).join("debug/supernode");
    let load = Profile::Debug.directory()?.join("supernode-load");
    calls(&relay, &load)
}

/// The program's commands, and calls of clients that are not emulated.
fn calls(relay: &Path, load: &Path) -> anyhow::Result<()> {
    let relay = relay.to_string_lossy();
    let program = [&emulator()[..], &[&*relay]].concat();
    let version = Run::new(&[&program[..], &["--version"]].concat()).output()?;
    ensure!(version.starts_with("supernode "), "supernode --version: {version}");
    Run::new(&[&program[..], &["check-config", "deploy/supernode.toml"]].concat()).status()?;

    let interrupted = Interrupted::listen()?;
    let home = workspace::target_directory()?.join("arm64-relay");
    // That of the last time may be there.
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(&home)?;
    let (stdout, stderr, invite) = (home.join("relay.json"), home.join("relay.log"), home.join("invite"));
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(["serve", "--open", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(home.join("state"));
    let mut process = Process::start_with_files("the emulated relay", &stdout, &stderr, &mut command)?;
    let begun = Instant::now();
    let ready = loop {
        if let Some((line, _)) = fs::read_to_string(&stdout)?.split_once('\n') {
            break serde_json::from_str::<Ready>(line).context("the relay's first line")?;
        }
        let ended = process.ended()?;
        let log = || fs::read_to_string(&stderr).unwrap_or_default();
        ensure!(ended.is_none() && begun.elapsed() < PATIENCE, "the relay is not ready: {ended:?}\n{}", log());
        interrupted.pause()?;
    };
    fs::write(&invite, ready.invite)?;
    let (load, invite) = (load.to_string_lossy(), invite.to_string_lossy());
    let set: Vec<&str> = CALLS.iter().flat_map(|value| ["--set", value]).collect();
    Run::new(&[&[&*load, "run", "calls", "--invite-file", &invite][..], &set].concat()).status()?;
    process.terminate(PATIENCE, &interrupted)?;
    print!("{}", fs::read_to_string(&stderr)?);
    Ok(())
}

impl Toolchain {
    /// One that people have made able to build for it, or Debian's.
    fn find() -> anyhow::Result<Option<Self>> {
        let has = |program: &str| {
            let mut command = Command::new(program);
            command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if !has(EMULATOR) || !has(LINKER) {
            return Ok(None);
        }
        // Another compiler's work of this machine's own kind would have to be thrown away.
        let target_directory = workspace::target_directory()?.join("arm64");
        let debian = |program: &str| format!("{DEBIAN}/{program}");
        let toolchains = [("cargo".to_owned(), "rustc".to_owned()), (debian("cargo"), debian("rustc"))];
        let found = toolchains.into_iter().find(|(_, rustc)| builds_for_it(rustc));
        Ok(found.map(|(cargo, rustc)| Self { cargo, rustc, target_directory }))
    }

    fn cargo(&self, what: &str, arguments: &[&str]) -> Run {
        let words = [&[&*self.cargo, what, "--locked", "--target", TARGET][..], arguments].concat();
        Run::new(&words)
            .env("CARGO_TARGET_DIR", &self.target_directory.to_string_lossy())
            .env("RUSTC", &self.rustc)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", &emulator().join(" "))
            .env("CC_aarch64_unknown_linux_gnu", LINKER)
            .env("PROPTEST_CASES", CASES)
    }
}

/// The emulator's command, before the program's.
fn emulator() -> Vec<&'static str> {
    if Path::new(LOADER).exists() { vec![EMULATOR] } else { vec![EMULATOR, "-L", CROSS_LIBRARY] }
}

/// Whether a compiler is there, with the standard library for the target.
fn builds_for_it(rustc: &str) -> bool {
    let output =
        Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}
