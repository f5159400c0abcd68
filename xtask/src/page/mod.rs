//! `cargo xtask page`: the call page as one HTML file, from the wasm to the bundle.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

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
/// The browser of the demo.
const CHROMIUM: &str = "/usr/bin/chromium";

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
    if let Err(missing) = have_npm() {
        println!("NOT DONE: nothing of the page was tested. {missing:#}");
        return Ok(());
    }
    ["check", "test"].into_iter().try_for_each(npm)?;
    match Toolchain::find() {
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
    // Firefox plays into it: without a loudspeaker it has no clock for sound.
    tools::ensure("pulseaudio", "pulseaudio")?;
    workspace::as_for_tests().status()?;
    let programs = Profile::Debug.directory()?;
    Run::new(&["npm", "run", "--silent", "browsers", "--prefix", "web", "--", "--short"])
        .env("SUPERNODE_PROGRAMS", &programs.to_string_lossy())
        .status()
}

/// Whether a page can be made and be in a call here.
///
/// # Errors
/// All that is missing, and how it is installed.
pub fn ready_for_a_call() -> anyhow::Result<()> {
    all_of([have_npm(), Toolchain::find().map(drop), have_chromium()])
}

fn all_of<const N: usize>(parts: [anyhow::Result<()>; N]) -> anyhow::Result<()> {
    let missing: Vec<String> =
        parts.into_iter().filter_map(Result::err).map(|error| format!("\n  {error:#}")).collect();
    if missing.is_empty() { Ok(()) } else { bail!("no page can be in a call here:{}", missing.concat()) }
}

fn have_chromium() -> anyhow::Result<()> {
    if Path::new(CHROMIUM).is_file() { Ok(()) } else { bail!("{CHROMIUM} is not here (Debian: apt install chromium).") }
}

/// Builds the wasm and what calls it, into `web/pkg`.
fn pack() -> anyhow::Result<()> {
    let toolchain = Toolchain::find()?;
    have_npm()?;
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

fn have_npm() -> anyhow::Result<()> {
    let output = Command::new("npm").arg("--version").output();
    if output.is_ok_and(|output| output.status.success()) {
        Ok(())
    } else {
        bail!("npm is not here (Debian: apt install npm).")
    }
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

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn all_that_is_missing_is_said_at_once() {
        all_of([Ok(()), Ok(())]).expect("all is here");
        let missing = all_of([Err(anyhow!("no npm")), Ok(()), Err(anyhow!("no chromium"))]).expect_err("two are not");
        assert_eq!(missing.to_string(), "no page can be in a call here:\n  no npm\n  no chromium");
    }
}
