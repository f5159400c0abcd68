//! What is shipped for operators in `deploy/`, checked by the tools that will read it: rules by promtool, manifests and
//! the compose file against their schemas, the Dockerfile by hadolint, the unit by systemd, and every panel of every
//! dashboard by a Prometheus that scrapes a relay with a call on it.

mod files;
mod tools;

use std::path::Path;

use anyhow::bail;

use crate::{
    checks::sources,
    demo::prometheus,
    workspace::{self, Run},
};

/// Exposure that `systemd-analyze security` may find, in tenths.
const EXPOSURE_MAX: u32 = 15;

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
    let python = tools::python()?;
    tools::ensure("promtool", "prometheus")?;
    tools::ensure("prometheus", "prometheus")?;
    tools::ensure("systemd-analyze", "systemd")?;
    for command in checks(&python) {
        println!("   {}", command.shown());
        command.status()?;
    }
    // It prints a line for each of a hundred settings, and fails when the sum is above the threshold.
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let unit = "deploy/systemd/supernode.service";
    Run::new(&["systemd-analyze", "security", "--no-pager", "--offline=yes", &threshold, unit]).output()?;
    prometheus::every_query_returns_data(&workspace::release_directory()?, &queries)
}

/// Commands that fail when a file is wrong.
fn checks(python: &Path) -> Vec<Run> {
    let tool = |name: &str| python.join(name).to_string_lossy().into_owned();
    vec![
        Run::new(&["promtool", "check", "rules", "deploy/prometheus/supernode.rules.yaml"]),
        Run::new(&["promtool", "test", "rules", "deploy/prometheus/supernode.rules.test.yaml"]),
        Run::new(&["promtool", "check", "config", "deploy/prometheus/prometheus.yaml"]),
        Run::new(&[&tool("hadolint"), "Dockerfile"]),
        Run::new(&[&tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml"]),
        Run::new(&[&tool("kubernetes-validate"), "--strict", "--quiet", "deploy/kubernetes/supernode.yaml"]),
    ]
}
