//! What builds for a browser: the toolchain in use, or Debian's, which makes the library for that target from its source.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::workspace::Run;

/// What a browser runs.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Where Debian's compiler is (packages `rustc-web` and `cargo-web`; `rust-web-src` has the library's source).
const DEBIAN: &str = "/usr/bin";

/// Compiler and library for [`TARGET`].
#[derive(Debug, Clone)]
pub enum Toolchain {
    /// The one in use.
    Own,
    /// Debian's, with this linker.
    Debian(PathBuf),
}

impl Toolchain {
    /// The one on this machine.
    ///
    /// # Errors
    /// There is none; the text says what to install.
    pub fn find() -> anyhow::Result<Self> {
        let library = Run::new(&["rustc", "--print", "target-libdir", "--target", TARGET]).output()?;
        if Path::new(library.trim()).is_dir() {
            return Ok(Self::Own);
        }
        if !has_library_source() {
            bail!(
                "This toolchain lacks it: `rustup target add {TARGET}` installs it, or Debian has another one: `apt install \
                 rustc-web cargo-web rust-web-src`"
            );
        }
        Ok(Self::Debian(linker()?))
    }

    /// A command of cargo's for [`TARGET`].
    pub fn cargo(&self, words: &[&str]) -> Run {
        let for_target = ["--target", TARGET];
        match self {
            Self::Own => Run::new(&[&["cargo"], words, &for_target].concat()),
            Self::Debian(linker) => {
                let cargo = format!("{DEBIAN}/cargo");
                // The library for wasm is not in Debian: making it takes cargo's `-Z`, which a released one has when told so.
                Run::new(&[&[&*cargo], words, &for_target, &["-Zbuild-std=std,panic_abort"]].concat())
                    .env("RUSTC", &format!("{DEBIAN}/rustc"))
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &linker.to_string_lossy())
            }
        }
    }
}

fn has_library_source() -> bool {
    let rustc = format!("{DEBIAN}/rustc");
    if !Path::new(&rustc).is_file() || !Path::new(DEBIAN).join("cargo").is_file() {
        return false;
    }
    let sysroot = Run::new(&[&rustc, "--print", "sysroot"]).output();
    sysroot.is_ok_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/std").is_dir())
}

/// The linker of the toolchain in use, or the system's.
fn linker() -> anyhow::Result<PathBuf> {
    let sysroot = Run::new(&["rustc", "--print", "sysroot"]).output()?;
    let host = Run::new(&["rustc", "--print", "host-tuple"]).output()?;
    let own = Path::new(sysroot.trim()).join("lib/rustlib").join(host.trim()).join("bin/rust-lld");
    let found = [own, PathBuf::from("/usr/bin/wasm-ld")].into_iter().find(|path| path.is_file());
    found.context("no linker for wasm is here: neither rust-lld of this toolchain nor wasm-ld (Debian: lld)")
}
