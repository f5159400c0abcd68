//! Programs of others that the checks need. What is missing is installed where that is possible; if not, the step fails
//! and says what it needs: nothing is skipped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::bail;

use crate::workspace::{self, Run};

/// How long a server of packages is left alone after it failed, before it is asked once more.
const PAUSE: Duration = Duration::from_secs(15);
/// What every call of apt-get begins with. A mirror that hangs must not hang the gate.
const APT_GET: [&str; 7] = [
    "timeout",
    "300",
    "apt-get",
    "-qq",
    "-oAcquire::Retries=3",
    "-oAcquire::http::Timeout=30",
    "-oDPkg::Lock::Timeout=60",
];
/// What every call of pip's `install` begins with, behind pip itself.
const PIP_INSTALL: [&str; 7] =
    ["install", "--quiet", "--disable-pip-version-check", "--retries", "5", "--timeout", "30"];

/// Makes sure that `program` can be run; Debian's `package` has it.
///
/// # Errors
/// If it is missing and we may not install it.
pub(crate) fn ensure(program: &str, package: &str) -> anyhow::Result<()> {
    if found(program) {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() || !found("apt-get") {
        bail!("{program} is missing: install it first (Debian: apt-get install {package})");
    }
    twice(PAUSE, || {
        Run::new(&[&APT_GET[..], &["update"]].concat()).status()?;
        let install = [&APT_GET[..], &["install", "--yes", "--no-install-recommends", package]].concat();
        Run::new(&install).env("DEBIAN_FRONTEND", "noninteractive").status()
    })?;
    if found(program) { Ok(()) } else { bail!("{program} is still missing after installing {package}") }
}

/// The directory of the programs of these packages from PyPI and of their interpreter, in an environment of this name
/// beside the build's output.
///
/// # Errors
/// If they cannot be installed.
pub(crate) fn python(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let environment = workspace::target_directory()?.join(name);
    let programs = environment.join("bin");
    // Written last, and named after the versions.
    let complete = environment.join(packages.join("-"));
    if complete.is_file() {
        return Ok(programs);
    }
    ensure("python3", "python3")?;
    let at = environment.to_string_lossy();
    if Run::new(&["python3", "-m", "venv", "--clear", &at]).status().is_err() {
        ensure_venv()?;
        Run::new(&["python3", "-m", "venv", "--clear", &at]).status()?;
    }
    let pip = programs.join("pip").to_string_lossy().into_owned();
    let words = [&["timeout", "300", &pip][..], &PIP_INSTALL, packages].concat();
    twice(PAUSE, || Run::new(&words).status())?;
    std::fs::write(complete, "")?;
    Ok(programs)
}

/// Debian ships the module apart from the interpreter: it can be there without.
fn ensure_venv() -> anyhow::Result<()> {
    ensure("/usr/share/doc/python3-venv", "python3-venv")
}

/// Does what depends on somebody else's server; if it fails, once more after a pause.
fn twice(pause: Duration, mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Err(error) = attempt() else { return Ok(()) };
    println!("   {error:#}; once more in {} s", pause.as_secs());
    thread::sleep(pause);
    attempt()
}

/// The same, with our own pause.
///
/// # Errors
/// Those of the second attempt.
pub(crate) fn again_after_a_pause(attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    twice(PAUSE, attempt)
}

/// Whether a program is on the path, or a file is there.
fn found(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$0\"", program]).stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_not() {
        assert!(found("sh") && found("/") && !found("no-such-program") && !found("/no/such/file"));
        ensure("sh", "dash").expect("there is a shell");
    }

    #[test]
    fn a_server_that_fails_is_asked_once_more_and_not_again() {
        for (failures, expected) in [(0, Ok(1)), (1, Ok(2)), (2, Err(2))] {
            let mut attempts = 0;
            let done = twice(Duration::ZERO, || {
                attempts += 1;
                if attempts > failures { Ok(()) } else { bail!("out of reach") }
            });
            assert_eq!(done.map(|()| attempts).map_err(|_| attempts), expected);
        }
    }
}
