//! `cargo xtask night`: what takes hours. Each part has a bound of time, and the next one goes on after a failure.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{
    arm64,
    lanes::{Ended, Group, interrupted},
    page, sound, workspace,
};

const MINUTE: Duration = Duration::from_secs(60);
/// Sequences that are played against the model of the relay: a twentieth of a random test's cases, because each is a relay.
const CASES_PER_SEQUENCE: u32 = 20;
/// Calls that come and go while the relay's memory is watched; four hundred by day.
const MEMORY_CYCLES: &str = "40000";
/// Worlds; forty by day.
const WORLDS: &str = "20000";
/// Those in which the relay lies; four by day.
const LYING_WORLDS: &str = "5000";
/// How long forty idle clients stay in; forty seconds by day.
const IDLE_S: &str = "1800";

/// How long a program waits for calls through restarts and changes of network; three quarters of a minute by day.
const AGAIN_S: &str = "1800";

/// How long pages are in a call, and how long one is in the background, in seconds.
const PAGES_S: &str = "600";
const HIDDEN_S: &str = "300";

/// A part of the night.
struct Part {
    name: &'static str,
    longest: Duration,
    command: Command,
}

/// Runs all parts, or only those named, and says whether all passed.
///
/// # Errors
/// If a name is unknown, or a part cannot be started.
pub fn run(cases: u32, only: &[String]) -> anyhow::Result<bool> {
    let parts = parts(cases)?;
    let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("--part {unknown}: must be one of {}", names.join(", "));
    }
    let stop = interrupted()?;
    let (mut passed, mut failed) = (0, Vec::new());
    for Part { name, longest, mut command } in parts {
        if !only.is_empty() && !only.iter().any(|chosen| chosen == name) {
            continue;
        }
        println!("\n== {name}, for {} min at most: {}", longest.as_secs() / 60, shown(&command));
        let begun = Instant::now();
        let ended = Group::start(command.current_dir(workspace::root()))?.wait(Some(longest), &stop)?;
        let seconds = begun.elapsed().as_secs();
        match ended {
            Ended::Well => passed += 1,
            Ended::Stopped => bail!("interrupted"),
            Ended::Failed | Ended::TooLong => failed.push(name),
        }
        println!(
            "== {name}: {} after {seconds} s",
            match ended {
                Ended::Well => "passed",
                Ended::TooLong => "TOOK TOO LONG",
                Ended::Failed | Ended::Stopped => "FAILED",
            }
        );
    }
    if !failed.is_empty() {
        println!("\nFailed: {}", failed.join(", "));
    }
    println!("\n{passed} passed, {} failed", failed.len());
    Ok(failed.is_empty())
}

fn parts(cases: u32) -> anyhow::Result<Vec<Part>> {
    let test = |name, minutes: u32, words: &[&str], variable: &str, value: &str| {
        let mut command = Command::new("cargo");
        command.args(["test", "--workspace", "--locked"]).args(words).env(variable, value);
        Part { name, longest: minutes * MINUTE, command }
    };
    let own = |name, minutes: u32, words: &[&str]| -> anyhow::Result<Part> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words);
        Ok(Part { name, longest: minutes * MINUTE, command })
    };
    let sequences = (cases / CASES_PER_SEQUENCE).to_string();
    let mut parts = vec![
        test("random", 120, &["--lib", "--test", "properties", "--test", "core"], "PROPTEST_CASES", &cases.to_string()),
        test("model", 120, &["--test", "model"], "SUPERNODE_MODEL_SEQUENCES", &sequences),
        test("memory", 90, &["--test", "memory"], "SUPERNODE_MEMORY_CYCLES", MEMORY_CYCLES),
        test("idle", 45, &["--test", "calls", "forty_idle_clients"], "SUPERNODE_WAIT_S", IDLE_S),
        test("again", 45, &["--test", "calls", "whoever_listens_again_comes_back"], "SUPERNODE_AGAIN_S", AGAIN_S),
        own("world", 120, &["world", "--seeds", WORLDS])?,
        own("lies", 60, &["world", "--lying", "--seeds", LYING_WORLDS])?,
        own("hostile", 60, &["hostile"])?,
    ];
    if let Some(install) = arm64::missing()? {
        println!("64-bit Arm is left out: something to build or run it is missing. On Debian: {install}");
    } else {
        parts.push(own("arm64", 120, &["arm64"])?);
    }
    match sound::missing() {
        None => parts.push(own("sound", 60, &["sound"])?),
        Some(install) => {
            println!("Microphone and loudspeaker are NOT DONE: something is missing. On Debian: {install}")
        }
    }
    match page::ready_for_a_call() {
        Ok(()) => {
            parts.push(own("page", 30, &["page"])?);
            let mut browsers = Command::new("npm");
            browsers.args(["run", "--silent", "browsers", "--prefix", "web"]);
            browsers.env("SUPERNODE_LONG_SECONDS", PAGES_S).env("SUPERNODE_HIDDEN_SECONDS", HIDDEN_S);
            browsers.env("SUPERNODE_EIGHT", "1");
            parts.push(Part { name: "browsers", longest: 60 * MINUTE, command: browsers });
        }
        Err(missing) => println!("Browsers are left out: {missing:#}"),
    }
    // Installing them takes longer than measuring them.
    if has_peers(&workspace::target_directory()?) {
        parts.push(own("peers", 90, &["bench", "peers"])?);
    } else {
        println!("Other relays are left out: none is in target/peers. `cargo xtask bench peers` installs them.");
    }
    Ok(parts)
}

fn has_peers(target: &Path) -> bool {
    ["iroh-relay", "moq-relay"].iter().all(|program| target.join("peers/bin").join(program).is_file())
}

/// As it would be typed.
fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)));
    let words = [command.get_program()].into_iter().chain(command.get_args()).filter_map(|word| word.to_str());
    set.chain(words.map(str::to_owned)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_shown_as_it_would_be_typed_and_an_unknown_one_is_refused() {
        let parts = parts(4000).expect("this program knows where it is");
        let model = parts.iter().find(|part| part.name == "model").expect("it is a part");
        let typed = "SUPERNODE_MODEL_SEQUENCES=200 cargo test --workspace --locked --test model";
        assert_eq!(shown(&model.command), typed);
        let error = run(1, &["modle".into()]).expect_err("it is called model");
        assert!(error.to_string().contains("must be one of random, model, "), "{error}");
    }
}
