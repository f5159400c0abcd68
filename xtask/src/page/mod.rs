//! `cargo xtask page`: the call page as one HTML file, from the wasm to the bundle.

use std::path::{Path, PathBuf};

use crate::{
    deploy::{self, tools},
    wasm::{self, Toolchain},
    workspace::{self, Profile, Run},
};

/// What is built, and how: see the workspace's profiles.
const BUILD: [&str; 7] = ["build", "--locked", "--profile", "page", "-p", "supernode-web", "--lib"];
/// Puts JavaScript around it.
const PACK: [&str; 8] =
    ["cargo", "run", "--quiet", "--locked", "--release", "--manifest-path", "web/pack/Cargo.toml", "--"];

/// Makes `web/dist/supernode.html` and says its hash and size.
///
/// # Errors
/// What is missing, or went wrong.
pub fn run() -> anyhow::Result<()> {
    pack()?;
    npm("build")
}

/// Step `page` of the gate: what is checked of the page's sources, and the page, made as people get it. Where something is
/// missing for it, it says so.
///
/// # Errors
/// What did not hold.
pub fn make() -> anyhow::Result<()> {
    tools::ensure("npm", "npm")?;
    ["check", "test"].into_iter().try_for_each(npm)?;
    match Toolchain::find_or_install() {
        Ok(_) => run(),
        Err(missing) => {
            println!("NOT DONE: the page was not built. {missing:#}");
            Ok(())
        }
    }
}

/// Step `browsers` of the gate: calls between real browsers, by what step `page` made.
///
/// # Errors
/// What did not hold.
pub fn calls() -> anyhow::Result<()> {
    if !web().join("pkg").is_dir() {
        println!("NOT DONE: no call in browsers, because step `page` could not build the page.");
        return Ok(());
    }
    deploy::browsers()?;
    workspace::as_for_tests().status()?;
    let programs = Profile::Debug.directory()?;
    Run::new(&["npm", "run", "--silent", "browsers", "--prefix", "web"])
        .env("SUPERNODE_PROGRAMS", &programs.to_string_lossy())
        .status()
}

/// Builds the wasm and what calls it, into `web/pkg`.
fn pack() -> anyhow::Result<()> {
    let toolchain = Toolchain::find_or_install()?;
    tools::ensure("npm", "npm")?;
    toolchain.cargo(&BUILD).env("RUSTFLAGS", &without_places()).status()?;
    let built = workspace::target_directory()?.join(wasm::TARGET).join("page").join("supernode_web.wasm");
    let package = web().join("pkg");
    Run::new(&[&PACK[..], &[&built.to_string_lossy(), &package.to_string_lossy()]].concat()).status()
}

/// Flags by which nothing in the wasm says where it was made.
fn without_places() -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    format!("--remap-path-prefix={}=. --remap-path-prefix={cargo}=cargo", workspace::root().display())
}

fn npm(script: &str) -> anyhow::Result<()> {
    install()?;
    Run::new(&["npm", "run", "--silent", script, "--prefix", "web"]).status()
}

/// Installs exactly what the lock file says, unless it is there.
fn install() -> anyhow::Result<()> {
    if is_older(&web().join("node_modules/.package-lock.json"), &web().join("package-lock.json")) {
        Run::new(&["npm", "ci", "--prefix", "web"]).status()?;
    }
    Ok(())
}

fn web() -> PathBuf {
    workspace::root().join("web")
}

fn is_older(made: &Path, source: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|data| data.modified());
    match (modified(made), modified(source)) {
        (Ok(made), Ok(source)) => made < source,
        _ => true,
    }
}
