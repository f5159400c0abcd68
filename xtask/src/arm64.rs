//! Tests on another kind of processor: built here for 64-bit Arm, and run by qemu, which emulates its instructions and leaves
//! system calls to this machine's kernel.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The target as rustc names it.
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Debian's C compiler for it, and its emulator with the C library that programs for it find.
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: [&str; 3] = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"];
/// Where Debian's own toolchain is: the standard library for a foreign processor comes with it as a package, where rustup's
/// server is out of reach.
const DEBIAN: &str = "/usr/bin";
/// Random tests have few cases: an emulated processor takes twenty times as long.
const CASES: &str = "16";

/// What is missing to build and run them, and how Debian installs it.
pub const INSTALL: &str = "dpkg --add-architecture arm64 && apt-get update && apt-get install --no-install-recommends \
    qemu-user gcc-aarch64-linux-gnu rustc-web cargo-web libstd-rust-web-dev:arm64";

/// The command that builds the relay and runs short tests of the wire, keys, the client's side of it and the relay's core and
/// shell; `None` where something is missing.
pub fn command(target_directory: &Path) -> Option<Command> {
    let has = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !has(EMULATOR[0]) || !has(LINKER) {
        return None;
    }
    let debian = |program: &str| format!("{DEBIAN}/{program}");
    let (cargo, rustc) = [("cargo".to_owned(), "rustc".to_owned()), (debian("cargo"), debian("rustc"))]
        .into_iter()
        .find(|(_, rustc)| builds_for_it(rustc))?;
    let mut command = Command::new(cargo);
    command.args(["test", "--locked", "--target", TARGET]);
    for package in ["supernode-proto", "supernode-keys", "supernode-session", "supernode-server"] {
        command.args(["-p", package]);
    }
    command.args(["--lib", "--test", "golden", "--test", "core", "--test", "relay"]);
    // Another compiler's work of this machine's own kind would have to be thrown away.
    command.env("CARGO_TARGET_DIR", target_directory.join("arm64")).env("RUSTC", rustc);
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", EMULATOR.join(" "));
    command.env("CC_aarch64_unknown_linux_gnu", LINKER);
    command.env("PROPTEST_CASES", CASES);
    Some(command)
}

/// Whether a compiler is there, with the standard library for the target.
fn builds_for_it(rustc: &str) -> bool {
    let output =
        Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}
