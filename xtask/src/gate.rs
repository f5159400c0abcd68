//! `cargo xtask test`: everything that must hold before a change goes in, in order, up to the first failure.

use std::{
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use supernode_world_options::Options;

use crate::{
    arguments, bench,
    checks::{Findings, dependencies, docs, purity, requirements, sources, supply, tables},
    demo, deploy, hostile,
    lanes::{self, Ended},
    page, wasm,
    workspace::{self, Profile, Run},
    world,
};

/// How long the gate's own demonstration talks.
const DEMO_SECONDS: u64 = 4;
/// How many meet in its room.
const DEMO_ROOM: usize = 8;
/// How many calls go on while the relay is replaced.
const UPGRADE_CALLS: &str = "50";
/// Worlds that the gate runs, beside the few that step `test` runs unoptimised.
const WORLDS: u64 = 40;
/// The programs whose commands documents may name.
const PROGRAMS: &[&str] = &["supernode", "supernode-call"];
/// What the dependency rule protects: the relay, and what it and its tests are made of.
const BLIND: &[&str] = &[
    "supernode-server",
    "supernode-cluster",
    "supernode-cluster-nats",
    "supernode-proto",
    "supernode-keys",
    "supernode-session",
    "supernode-tcp",
    "supernode-tls",
    "supernode-testkit",
];
/// What must also be built where there is no socket, no clock and no operating system, as in a browser.
const WITHOUT_IO: &[&str] = &[
    "supernode-proto",
    "supernode-keys",
    "supernode-session",
    "supernode-e2ee",
    "supernode-calls",
    "supernode-cluster",
];
/// Those of them that need no randomness and no clock either, whoever has them. MLS draws keys by itself.
const WITHOUT_DICE: &[&str] = &["supernode-proto", "supernode-keys", "supernode-session", "supernode-cluster"];

/// When a step runs. What needs no build comes first. Then, once the tests are compiled, they run beside what only compiles:
/// most of them wait for sockets and clocks. What is measured, or would disturb who measures, runs alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Alone,
    /// In this lane, beside the others.
    Beside(usize),
}

/// The lane of what computes all the time: it gets what the others leave.
const COMPUTES: usize = 1;
const LANES: usize = 2;

/// What `cargo xtask check` does of this.
const LINTS: &[&str] = &["fmt", "sources", "clippy"];

/// One step: its name, when it runs, the command a person would type to see it fail alone, and what it does.
struct Step {
    name: &'static str,
    when: When,
    shown: String,
    run: Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>,
}

/// The steps' names, in order.
pub fn names() -> Vec<&'static str> {
    steps().iter().map(|step| step.name).collect()
}

/// Runs all steps, or only those named, and says whether all passed. Stops at the first failure; the last line printed
/// counts those that passed and failed. With `bare` it does one step and says nothing but what the step says: so a lane
/// runs it.
///
/// # Errors
/// If a name is unknown, or a bare step fails.
pub fn run(only: &[String], bare: bool) -> anyhow::Result<bool> {
    let steps = steps();
    if let Some(unknown) = only.iter().find(|name| steps.iter().all(|step| step.name != **name)) {
        bail!("--step {unknown}: must be one of {}", names().join(", "));
    }
    let chosen: Vec<Step> =
        steps.into_iter().filter(|step| only.is_empty() || only.iter().any(|name| name == step.name)).collect();
    if bare {
        return chosen.iter().try_for_each(|step| (step.run)()).map(|()| true);
    }
    let mut passed = 0;
    for group in chosen.chunk_by(|one, next| one.when != When::Alone && next.when != When::Alone) {
        let all_passed = match group {
            [step] => alone(step, &mut passed, chosen.len()),
            steps => beside(steps, &mut passed, chosen.len())?,
        };
        if !all_passed {
            println!("\n{passed} passed, 1 failed");
            return Ok(false);
        }
    }
    println!("\n{passed} passed, 0 failed");
    Ok(true)
}

/// Format, rules of sources and lints, up to the first that fails.
///
/// # Errors
/// What is wrong.
pub fn lints() -> anyhow::Result<()> {
    for step in steps().iter().filter(|step| LINTS.contains(&step.name)) {
        println!("\n== {}: {}", step.name, step.shown);
        (step.run)()?;
    }
    Ok(())
}

fn alone(step: &Step, passed: &mut usize, of: usize) -> bool {
    println!("\n== {}/{of} {}: {}", *passed + 1, step.name, step.shown);
    let started = Instant::now();
    let result = (step.run)();
    verdict_of(step, result.map_err(|error| format!("{error:#}")), started.elapsed(), passed)
}

/// Runs steps in their lanes, each as a process of its own.
fn beside(steps: &[Step], passed: &mut usize, of: usize) -> anyhow::Result<bool> {
    let own = std::env::current_exe()?;
    let mut lanes: Vec<Vec<lanes::Step>> = (0..LANES).map(|_| Vec::new()).collect();
    for step in steps {
        let When::Beside(lane) = step.when else { continue };
        let mut command = if lane == COMPUTES { Command::new("nice") } else { Command::new(&own) };
        if lane == COMPUTES {
            command.args(["-n", "19"]).arg(&own);
        }
        command.args(["test", "--bare", "--step", step.name]);
        lanes[lane].push(lanes::Step { name: step.name.to_owned(), command });
    }
    let name = |lane: &Vec<lanes::Step>| lane.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
    let sides: Vec<String> = lanes.iter().filter(|lane| !lane.is_empty()).map(name).collect();
    println!("\n== beside each other: {}. What each prints comes when it ends.", sides.join(" | "));
    let count = Mutex::new(passed);
    let all_well = lanes::run(lanes, &workspace::target_directory()?.join("lanes"), |done| {
        let Some(step) = steps.iter().find(|step| step.name == done.name) else { return };
        let mut passed = count.lock().unwrap_or_else(PoisonError::into_inner);
        println!("\n== {}/{of} {}: {}", **passed + 1, step.name, step.shown);
        print!("{}", done.printed);
        let result = if done.ended == Ended::Well { Ok(()) } else { Err("what it said is above".to_owned()) };
        verdict_of(step, result, done.took, &mut passed);
    })?;
    Ok(all_well)
}

fn verdict_of(step: &Step, result: Result<(), String>, took: Duration, passed: &mut usize) -> bool {
    let seconds = took.as_secs_f32();
    if let Err(error) = result {
        println!("== {}: FAILED after {seconds:.1} s: {error}", step.name);
        println!("The step that failed: {}", step.shown);
        return false;
    }
    println!("== {}: passed in {seconds:.1} s", step.name);
    *passed += 1;
    true
}

fn steps() -> Vec<Step> {
    let own = |name, check: fn() -> anyhow::Result<()>| Step {
        name,
        when: When::Alone,
        shown: format!("cargo xtask test --step {name}"),
        run: Box::new(check),
    };
    let beside = |lane, step: Step| Step { when: When::Beside(lane), ..step };
    vec![
        command("fmt", Run::new(&["cargo", "fmt", "--all", "--check"])),
        own("sources", source_rules),
        own("dependencies", dependency_rule),
        own("supply", supply_chain),
        command("compile", Run::new(&["cargo", "test", "--workspace", "--locked", "--no-run"])),
        beside(0, command("test", Run::new(&["cargo", "test", "--workspace", "--locked"]))),
        // First what has its own directory: the tests' is locked until they have begun.
        beside(COMPUTES, command("build", Profile::Gate.build())),
        beside(
            COMPUTES,
            command(
                "clippy",
                Run::new(&["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
            ),
        ),
        // The examples bring in the features of tests, with which all dependencies have been checked just now.
        beside(
            COMPUTES,
            command(
                "doc",
                Run::new(&["cargo", "doc", "--workspace", "--no-deps", "--locked", "--lib", "--bins", "--examples"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            ),
        ),
        beside(COMPUTES, own("wasm", compiles_for_browsers)),
        beside(COMPUTES, own("page", page::make)),
        beside(
            COMPUTES,
            Step {
                name: "world",
                when: When::Alone,
                shown: format!("cargo xtask world --seeds {WORLDS}"),
                run: Box::new(|| match world::run(&Options::of(WORLDS))? {
                    true => Ok(()),
                    false => bail!("something did not hold in a world, or a planted fault was not found"),
                }),
            },
        ),
        Step {
            name: "upgrade",
            when: When::Alone,
            shown: format!(
                "{}; {}",
                workspace::as_for_tests().shown(),
                upgrade_run("target/debug", "target/gate").shown()
            ),
            run: Box::new(|| {
                workspace::as_for_tests().status()?;
                let (debug, gate) = (Profile::Debug.directory()?, Profile::Gate.built()?);
                let run = upgrade_run(&debug.to_string_lossy(), &gate.to_string_lossy());
                // A machine that is busy with something else can take a second from somebody, but not each time.
                run.status().or_else(|_| run.status())
            }),
        },
        Step {
            name: "works",
            when: When::Alone,
            shown: format!("{}; target/gate/supernode-works", Profile::Gate.build().shown()),
            run: Box::new(|| Run::new(&[&Profile::Gate.built()?.join("supernode-works").to_string_lossy()]).status()),
        },
        Step {
            name: "hostile",
            when: When::Alone,
            shown: "cargo xtask hostile --quick, with a relay of profile gate".to_owned(),
            run: Box::new(|| {
                let quick = hostile::Options { relay: Profile::Gate, quick: true, json: false, only: Vec::new() };
                match hostile::run(&quick)? {
                    true => Ok(()),
                    false => bail!("an attack took something from a call, a newcomer or the machine"),
                }
            }),
        },
        own("tidy", tidy),
        own("bench", instructions),
        own("cluster", deploy::cluster),
        own("pages", deploy::pages),
        own("browsers", page::calls),
        own("deploy", deploy::run),
        own("service", deploy::real),
        Step {
            name: "demo",
            when: When::Alone,
            shown: format!(
                "cargo xtask demo --seconds {DEMO_SECONDS} --json; cargo xtask demo --room {DEMO_ROOM} --seconds \
                 {DEMO_SECONDS} --json, with programs of profile gate"
            ),
            run: Box::new(|| {
                let call = demo::Options {
                    programs: Profile::Gate,
                    seconds: DEMO_SECONDS,
                    json: true,
                    ..demo::Options::default()
                };
                demo::run(&call)?;
                demo::run(&demo::Options { room: Some(DEMO_ROOM), ..call })
            }),
        },
    ]
}

fn upgrade_run(debug: &str, gate: &str) -> Run {
    let (upgrade, relay) = (format!("{debug}/supernode-upgrade"), format!("{gate}/supernode"));
    Run::new(&[&upgrade, "--relay", &relay, "--calls", UPGRADE_CALLS])
}

fn command(name: &'static str, run: Run) -> Step {
    Step { name, when: When::Alone, shown: run.shown(), run: Box::new(move || run.status()) }
}

/// What the relay, the wire and calls reach, and what the core, the wire and calls name.
fn dependency_rule() -> anyhow::Result<()> {
    let mut findings = Findings::new();
    let policy = supply::Policy::parse(&workspace::read("deny.toml")?)?;
    for (package, target) in
        BLIND.iter().flat_map(|package| policy.graph.targets.iter().map(move |target| (package, target)))
    {
        let words = ["cargo", "tree", "--locked", "--edges", "normal,build,dev", "--prefix", "depth"];
        let words = [&words[..], &["--target", target, "-p", package]].concat();
        findings.extend(dependencies::forbidden(&Run::new(&words).output()?));
    }
    for package in WITHOUT_IO {
        let words = ["cargo", "tree", "--locked", "--edges", "normal", "--prefix", "none", "-p", package];
        let words = [&words[..], &["--target", wasm::TARGET]].concat();
        findings.extend(purity::below(&Run::new(&words).output()?, WITHOUT_DICE.contains(package)));
    }
    let rust = sources::read_all(&workspace::root(), "rs")?;
    findings.extend(purity::core(&rust));
    findings.extend(purity::wire(&rust));
    verdict(findings)
}

/// What needs neither I/O nor randomness compiles for a target that has nothing else, if there is a toolchain for that target:
/// by itself, since others bring randomness along. Those others are built for it in step `page`, which needs them.
fn compiles_for_browsers() -> anyhow::Result<()> {
    let toolchain = match wasm::Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            println!("NOT DONE: nothing was compiled for {}. {missing:#}", wasm::TARGET);
            return Ok(());
        }
    };
    let packages = WITHOUT_DICE.iter().flat_map(|package| ["-p", *package]).collect::<Vec<_>>();
    toolchain.cargo(&[&["check", "--locked", "--lib"][..], &packages].concat()).status()
}

/// The instruction counts, where the tools for them are there. Each bench has run once in step `test` anyway; building
/// the runner would take minutes, so it is not installed for this.
fn instructions() -> anyhow::Result<()> {
    if let Err(missing) = bench::tools() {
        println!("Instructions are not counted here. {missing:#}");
        return Ok(());
    }
    if bench::run(false)? { Ok(()) } else { bail!("the relay's core takes more instructions than the baseline says") }
}

fn supply_chain() -> anyhow::Result<()> {
    let policy = supply::Policy::parse(&workspace::read("deny.toml")?)?;
    let mut findings = Findings::new();
    for target in &policy.graph.targets {
        findings.extend(supply::violations(&policy, &workspace::metadata(target)?));
    }
    verdict(findings)
}

/// What can be seen of sources and documents without a build.
fn source_rules() -> anyhow::Result<()> {
    let root = workspace::root();
    let rust = sources::read_all(&root, "rs")?;
    let markdown = sources::read_all(&root, "md")?;
    let mut findings = [sources::too_long(&rust), sources::unfinished(&rust), sources::clocks_and_dice(&rust)].concat();
    findings.extend(docs::missing(&markdown));
    findings.extend(docs::titles(&markdown));
    findings.extend(docs::links(&root, &markdown));
    if let Ok(protocol) = workspace::read("docs/PROTOCOL.md") {
        findings.extend(tables::out_of_step(&protocol));
        findings.extend(requirements::uncited(&protocol, &rust));
    }
    verdict(findings)
}

/// Documents against the programs: what they write themselves, and which commands their help knows.
fn tidy() -> anyhow::Result<()> {
    workspace::as_for_tests().status()?;
    let programs = Profile::Debug.directory()?;
    let mut findings = Findings::new();
    findings.extend(written_by_the_relay(&programs)?);
    let help = |words: &[&str]| {
        let (program, words) = words.split_first()?;
        if *program == "xtask" {
            return arguments::help(words);
        }
        let output = Command::new(programs.join(program)).args(words).arg("--help").output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for program in PROGRAMS {
        if help(&[program]).is_none_or(|text| text.is_empty()) {
            findings.push(format!("{program} --help: says nothing, so commands in documents cannot be checked"));
        }
    }
    for document in &sources::read_all(&workspace::root(), "md")? {
        findings.extend(docs::unknown_commands(&docs::commands(document), PROGRAMS, &help));
    }
    verdict(findings)
}

/// Documents that `supernode` writes from its own tables, and with what option. With `SUPERNODE_BLESS=1` they are
/// written anew.
fn written_by_the_relay(programs: &Path) -> anyhow::Result<Findings> {
    let bless = std::env::var_os("SUPERNODE_BLESS").is_some_and(|value| value == "1");
    let mut findings = Findings::new();
    for (document, option) in [("docs/CONFIG.md", "--reference"), ("deploy/supernode.toml", "--template")] {
        let output = Command::new(programs.join("supernode")).args(["config", option]).output()?;
        let path = workspace::root().join(document);
        if bless && output.status.success() {
            std::fs::write(&path, &output.stdout)?;
        } else if !output.status.success() || std::fs::read(&path).ok() != Some(output.stdout) {
            findings.push(format!(
                "{document}: is not what `supernode config {option}` prints; SUPERNODE_BLESS=1 cargo xtask test --step \
                 tidy writes it anew"
            ));
        }
    }
    Ok(findings)
}

fn verdict(mut findings: Findings) -> anyhow::Result<()> {
    findings.sort();
    findings.dedup();
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} findings:\n  {}", findings.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_fail_a_step_and_are_all_named_once() {
        verdict(Findings::new()).expect("nothing is wrong");
        let error = verdict(vec!["b.rs: long".into(), "a.rs: long".into(), "b.rs: long".into()]).expect_err("findings");
        assert_eq!(error.to_string(), "2 findings:\n  a.rs: long\n  b.rs: long");
    }

    #[test]
    fn a_failing_command_is_named() {
        let error = Run::new(&["false", "--locked"]).env("RUSTDOCFLAGS", "-D warnings").status().expect_err("fails");
        assert_eq!(error.to_string(), "RUSTDOCFLAGS='-D warnings' false --locked: exit status: 1");
    }

    #[test]
    fn an_unknown_step_is_refused() {
        let error = run(&["tests".into()], false).expect_err("it is called test");
        assert!(error.to_string().contains("must be one of fmt, sources, dependencies, "), "{error}");
    }
}
