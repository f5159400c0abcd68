//! `cargo xtask`: builds the program of the tasks and hands over to it. For a demonstration it builds the relay and the
//! client in the same breath: cargo chooses the features of what programs share for all that it builds at once, so one
//! build makes nothing twice and keeps all cores busy, where a second one would begin with some fifty crates again. This
//! program depends on nothing, so that it is there in a second.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let Ok(here) = env::current_exe() else {
        eprintln!("Error: this program cannot say where it is");
        return ExitCode::FAILURE;
    };
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--locked", "--bins", "--package", "xtask"]);
    if runs_unoptimised_programs(&words) {
        build.args(["--package", "supernode-server", "--package", "supernode-client"]);
    } else {
        build.arg("--quiet");
    }
    match build.status() {
        Ok(status) if status.success() => {}
        Ok(_) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: cannot run cargo: {error}");
            return ExitCode::FAILURE;
        }
    }
    // Only returns if it cannot start.
    let error = Command::new(here.with_file_name("xtask")).args(words).exec();
    eprintln!("Error: cannot start xtask: {error}");
    ExitCode::FAILURE
}

/// A demonstration does, unless it is asked for optimised ones, or only for its options.
fn runs_unoptimised_programs(words: &[OsString]) -> bool {
    let has = |word: &str| words.iter().any(|given| given == word);
    words.first().is_some_and(|task| task == "demo") && !["--release", "--help", "-h"].into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_built_for_a_demonstration_of_them_only() {
        let asks = |words: &str| runs_unoptimised_programs(&words.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert!(asks("demo") && asks("demo --seconds 5 --json"));
        assert!(!asks("test") && !asks("demo --release") && !asks("demo --help") && !asks("test --step demo"));
    }
}
