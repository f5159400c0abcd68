//! `cargo xtask bench`: how many instructions the relay's core takes, against the committed baseline.

use std::{collections::BTreeMap, fmt::Write, io, process::Command};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::workspace::{self, Run};

/// Where the baseline is, from the workspace's root.
const BASELINE: &str = "benches/baseline/instructions.json";
/// More instructions than this above the baseline are a failure.
const MORE_PERCENT_MAX: u64 = 3;

/// What was counted, and by what: another compiler or C library makes other instructions of the same source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// `rustc --version`.
    rustc: String,
    /// `valgrind --version`.
    valgrind: String,
    /// Instructions of each bench.
    instructions: BTreeMap<String, u64>,
}

/// Counts, compares and says whether no bench got worse. With `bless` it writes what it counted as the new baseline.
///
/// # Errors
/// If a tool is missing or a bench does not run.
pub fn run(bless: bool) -> anyhow::Result<bool> {
    let mut counted = count()?;
    if bless {
        let path = workspace::root().join(BASELINE);
        std::fs::create_dir_all(path.parent().context("a file is in a directory")?)?;
        std::fs::write(&path, serde_json::to_string_pretty(&counted)? + "\n").context(BASELINE)?;
        println!("{BASELINE}: {} benches", counted.instructions.len());
        return Ok(true);
    }
    let baseline: Counts = serde_json::from_str(&workspace::read(BASELINE)?).context(BASELINE)?;
    if !failures(&baseline, &counted).is_empty() {
        // The turn of a whole shard goes by the clock: on a busy machine one more of QUIC's timers may fall due in it.
        let again = count()?.instructions;
        for (name, instructions) in &mut counted.instructions {
            *instructions = again.get(name).map_or(*instructions, |again| (*instructions).min(*again));
        }
    }
    print!("{}", table(&baseline, &counted));
    let failures = failures(&baseline, &counted);
    for failure in &failures {
        println!("{failure}");
    }
    println!("{} benches, {} failed", counted.instructions.len(), failures.len());
    if failures.is_empty() {
        return Ok(true);
    }
    for difference in differences(&baseline, &counted) {
        println!("{difference}");
    }
    println!("If this is meant: cargo xtask bench --bless");
    Ok(false)
}

/// The versions of valgrind and rustc, if all that counts instructions is there.
///
/// # Errors
/// If something is missing or of another version, with what to do.
pub fn tools() -> anyhow::Result<[String; 2]> {
    let valgrind = version("valgrind", "apt-get install valgrind")?;
    let library = gungraun_version(&workspace::read("Cargo.lock")?)?;
    let install = format!("cargo install gungraun-runner --version {library} --locked");
    let runner = version("gungraun-runner", &install)?;
    // It refuses to work with another version of its library, but does not say what to do.
    if !runner.split_whitespace().any(|word| word == library) {
        bail!("{runner} is installed, and {library} is needed: {install}");
    }
    Ok([valgrind, version("rustc", "https://rustup.rs")?])
}

fn count() -> anyhow::Result<Counts> {
    let [valgrind, rustc] = tools()?;
    // The packages of the gate's step `works`, whose dependencies then need no second build with other features.
    let packages = ["-p", "supernode-server", "-p", "supernode-client", "-p", "supernode-benches"];
    let words = [&["cargo", "bench", "--locked"][..], &packages, &["--bench", "instructions", "--"]].concat();
    // Caches are not judged here, and simulating them doubles the time.
    let words = [&words[..], &["--output-format=json", "--callgrind-args=--cache-sim=no"]].concat();
    let instructions = instructions(&Run::new(&words).output()?)?;
    Ok(Counts { rustc, valgrind, instructions })
}

/// What `program --version` says, or how to install it.
fn version(program: &str, install: &str) -> anyhow::Result<String> {
    let output = match Command::new(program).arg("--version").output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!("{program} is not installed: {install}"),
        output => output.with_context(|| format!("{program} --version"))?,
    };
    if !output.status.success() {
        bail!("{program} --version: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of the benches' library, which its runner must have too.
fn gungraun_version(lock: &str) -> anyhow::Result<String> {
    let lock: toml::Table = toml::from_str(lock).context("Cargo.lock")?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock: has no packages")?;
    let gungraun =
        packages.iter().find(|package| package.get("name").is_some_and(|name| name.as_str() == Some("gungraun")));
    let version = gungraun.and_then(|package| package.get("version")).and_then(toml::Value::as_str);
    version.map(str::to_owned).context("Cargo.lock: has no gungraun")
}

/// Instructions of each bench, from the runner's output: one JSON object a line for each.
fn instructions(output: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let summary: Value = serde_json::from_str(line).context("the runner's output")?;
        let [function, id] = ["function_name", "id"].map(|key| summary[key].as_str());
        let name = format!("{}/{}", function.context("a bench without a name")?, id.context("a bench without an id")?);
        let count = instructions_of(&summary).with_context(|| format!("{name}: no instructions were counted"))?;
        if found.insert(name.clone(), count).is_some() {
            bail!("{name}: two benches have this name");
        }
    }
    if found.is_empty() {
        bail!("the runner reported no bench");
    }
    Ok(found)
}

/// What callgrind counted in all of one bench.
fn instructions_of(summary: &Value) -> Option<u64> {
    let profile = summary["profiles"].as_array()?.iter().find(|profile| profile["tool"] == "Callgrind")?;
    // Beside "new" there is "old" if the runner remembers an earlier run, which is not what we compare with.
    profile["data"]["total"]["metrics"]["Ir"]["values"]["new"].as_u64()
}

/// What is worse than the baseline, and what is only in one of the two, a line each.
fn failures(baseline: &Counts, counted: &Counts) -> Vec<String> {
    let mut failures = Vec::new();
    for (name, before) in &baseline.instructions {
        match counted.instructions.get(name) {
            None => failures.push(format!("{name}: is in the baseline and was not run")),
            Some(now) if is_worse(*before, *now) => failures.push(format!(
                "{name}: {now} instructions, {before} in the baseline: {:.4} times as many, at most 1.{MORE_PERCENT_MAX:02}",
                ratio(*before, *now)
            )),
            Some(_) => {}
        }
    }
    let new = counted.instructions.keys().filter(|name| !baseline.instructions.contains_key(*name));
    failures.extend(new.map(|name| format!("{name}: is not in the baseline")));
    failures
}

fn is_worse(before: u64, now: u64) -> bool {
    u128::from(now) * 100 > u128::from(before) * u128::from(100 + MORE_PERCENT_MAX)
}

fn ratio(before: u64, now: u64) -> f64 {
    now as f64 / before as f64
}

/// What else than our source may have changed the counts, a line each.
fn differences(baseline: &Counts, counted: &Counts) -> Vec<String> {
    let tools = [("rustc", &baseline.rustc, &counted.rustc), ("valgrind", &baseline.valgrind, &counted.valgrind)];
    let different = tools.into_iter().filter(|(_, before, now)| before != now);
    different
        .map(|(tool, before, now)| {
            format!(
                "The baseline was counted with another {tool} ({before}, here {now}): the code may not be the cause"
            )
        })
        .collect()
}

fn table(baseline: &Counts, counted: &Counts) -> String {
    let mut table = format!("{:<48}{:>12}{:>12}{:>8}\n", "instructions", "baseline", "now", "ratio");
    for (name, now) in &counted.instructions {
        let (before, ratio) = match baseline.instructions.get(name) {
            Some(before) => (before.to_string(), format!("{:.3}", ratio(*before, *now))),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(table, "{name:<48}{before:>12}{now:>12}{ratio:>8}");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: &[(&str, u64)]) -> Counts {
        let instructions = instructions.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Counts { rustc: "rustc 1.95.0".into(), valgrind: "valgrind-3.19.0".into(), instructions }
    }

    #[test]
    fn three_percent_more_pass_and_one_instruction_above_fails() {
        let baseline = counts(&[("decode/of_32", 1000)]);
        for passes in [1, 1000, 1030] {
            assert!(failures(&baseline, &counts(&[("decode/of_32", passes)])).is_empty(), "{passes}");
        }
        assert_eq!(
            failures(&baseline, &counts(&[("decode/of_32", 1031)])),
            ["decode/of_32: 1031 instructions, 1000 in the baseline: 1.0310 times as many, at most 1.03"]
        );
    }

    #[test]
    fn a_bench_that_vanished_or_is_new_fails() {
        let found = failures(&counts(&[("old/a", 1), ("same/a", 1)]), &counts(&[("new/a", 1), ("same/a", 1)]));
        assert_eq!(found, ["old/a: is in the baseline and was not run", "new/a: is not in the baseline"]);
    }

    #[test]
    fn another_compiler_is_named_as_a_possible_cause() {
        let baseline = counts(&[]);
        assert!(differences(&baseline, &baseline).is_empty());
        let newer = Counts { rustc: "rustc 1.96.0".into(), ..baseline.clone() };
        assert_eq!(
            differences(&baseline, &newer),
            [
                "The baseline was counted with another rustc (rustc 1.95.0, here rustc 1.96.0): the code may not be the cause"
            ]
        );
    }

    #[test]
    fn the_runners_output_is_read_with_and_without_an_earlier_run() {
        let line = |function: &str, values: &str| {
            format!(
                r#"{{"function_name": "{function}", "id": "of_32", "profiles": [
                    {{"tool": "Callgrind", "data": {{"total": {{"metrics": {{"Ir": {{"values": {values}}}}}}}}}}}]}}"#
            )
            .replace('\n', " ")
        };
        let output =
            [line("first", r#"{"new": 5}"#), "noise".into(), line("again", r#"{"new": 6, "old": 7}"#)].join("\n");
        let read = instructions(&output).expect("two benches");
        assert_eq!(read, counts(&[("first/of_32", 5), ("again/of_32", 6)]).instructions);
        instructions(&line("none", r#"{"old": 7}"#)).expect_err("nothing was counted");
        instructions(&[line("twice", r#"{"new": 5}"#), line("twice", r#"{"new": 5}"#)].join("\n")).expect_err("twice");
        instructions("noise").expect_err("no bench");
    }

    #[test]
    fn a_missing_tool_says_how_to_install_it() {
        let error = version("supernode-no-such-tool", "apt-get install it").expect_err("there is none");
        assert_eq!(error.to_string(), "supernode-no-such-tool is not installed: apt-get install it");
    }

    #[test]
    fn the_committed_baseline_and_the_library_version_are_readable() {
        let baseline: Counts =
            serde_json::from_str(&workspace::read(BASELINE).expect("committed")).expect("a baseline");
        assert!(baseline.instructions.values().all(|count| *count > 0) && !baseline.instructions.is_empty());
        let lock = workspace::read("Cargo.lock").expect("committed");
        assert!(gungraun_version(&lock).is_ok_and(|version| version.split('.').count() == 3));
        gungraun_version("[[package]]\nname = \"other\"\nversion = \"1.0.0\"\n").expect_err("not there");
    }
}
