//! What the files say: the dashboards' panels, and the alerts with their places in the handbook.

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    checks::{Findings, sources::SourceFile},
    demo::prometheus::{Query, WINDOW},
};

/// Every query of these dashboards, as Prometheus takes it.
///
/// # Errors
/// If one is no dashboard, or a panel has no query.
pub(super) fn queries(dashboards: &[SourceFile]) -> anyhow::Result<Vec<Query>> {
    let mut found = Vec::new();
    for file in dashboards {
        let dashboard: Value = serde_json::from_str(&file.text).with_context(|| file.path.clone())?;
        let panels = dashboard["panels"].as_array().with_context(|| format!("{}: no panels", file.path))?;
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let name = format!("{}: {}", file.path, panel["title"].as_str().unwrap_or("a panel without a title"));
            let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
            if targets.is_empty() {
                bail!("{name}: no query");
            }
            for target in targets {
                let query = target["expr"].as_str().with_context(|| format!("{name}: a target without expr"))?;
                // Grafana's variables.
                let promql = query.replace("$__rate_interval", WINDOW).replace("$instance", ".*");
                found.push(Query { name: name.clone(), promql });
            }
        }
    }
    if found.is_empty() {
        bail!("no dashboards");
    }
    Ok(found)
}

/// Alerts that the built-in page cannot show: a relay that is down has none.
const NOT_ON_PAGE: &[&str] = &["SupernodeDown"];

/// Alerts without a section in the handbook or without a warning of the built-in page, runbook links that lead nowhere,
/// sections and warnings without an alert.
pub(super) fn alerts(rules: &str, handbook: &str, page: &str) -> Findings {
    let mut findings = Findings::new();
    let after = |prefix: &str| {
        let lines = rules.lines().filter_map(|line| line.trim().strip_prefix(prefix));
        lines.map(|rest| rest.trim().to_owned()).collect::<Vec<_>>()
    };
    let (names, runbooks) = (after("- alert:"), after("runbook:"));
    if names.is_empty() || names.len() != runbooks.len() {
        findings.push(format!("the rules have {} alerts and {} runbook links", names.len(), runbooks.len()));
    }
    for (name, runbook) in names.iter().zip(&runbooks) {
        let wanted = format!("docs/OPERATING.md#{}", name.to_lowercase());
        if *runbook != wanted {
            findings.push(format!("{name}: its runbook is {runbook}, not {wanted}"));
        }
        if !handbook.lines().any(|line| line.strip_prefix("### ") == Some(name)) {
            findings.push(format!("{name}: docs/OPERATING.md has no section of this name"));
        }
    }
    // Its tests name alerts as well, and warn nobody.
    let page = page.split("#[cfg(test)]").next().unwrap_or_default();
    for name in names.iter().filter(|name| !NOT_ON_PAGE.contains(&name.as_str())) {
        if !page.contains(&format!("\"{name}\"")) {
            findings.push(format!("{name}: the built-in page has no such warning"));
        }
    }
    let sections = handbook.lines().filter_map(|line| line.strip_prefix("### Supernode"));
    let warnings = page.split("\"Supernode").skip(1).filter_map(|rest| rest.split('"').next());
    for name in sections.chain(warnings).map(|rest| format!("Supernode{rest}")) {
        if !names.contains(&name) {
            findings.push(format!("{name}: the rules have no such alert"));
        }
    }
    findings
}

/// What a unit starts, word by word, with `home` in the place of systemd's directories of a person.
pub(super) fn exec_start(unit: &str, home: &str) -> Vec<String> {
    let unit = unit.replace("\\\n", " ");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap_or_default();
    line.split_whitespace().map(|word| word.replace("%E", home).replace("%S", home)).collect()
}

/// The commands of the handbook's first `sh` fence below a heading that has this word.
///
/// # Errors
/// If there is no such heading or fence.
pub(super) fn commands<'a>(handbook: &'a str, heading: &str, word: &str) -> anyhow::Result<&'a str> {
    let below = handbook.split_once(&format!("# {heading}\n")).map(|(_, below)| below);
    let section = below.and_then(|below| below.split("\n#").next()).with_context(|| format!("no heading {heading}"))?;
    let fences = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut fences = fences.filter(|fence| fence.contains(word));
    fences.next().with_context(|| format!("{heading}: no commands with {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_the_handbook_are_found_by_heading_and_word() {
        let handbook = "# A\n## One\n```sh\nls\n```\n```sh\ntar -c\n```\n### Two\n```sh\ntar -x\n```\n";
        assert_eq!(commands(handbook, "One", "tar").expect("there"), "tar -c\n");
        assert_eq!(commands(handbook, "Two", "tar").expect("there"), "tar -x\n");
        commands(handbook, "Two", "ls").expect_err("of another section");
        commands(handbook, "Three", "ls").expect_err("no such heading");
    }

    const RULES: &str = "  - alert: SupernodeDown\n    runbook: docs/OPERATING.md#supernodedown\n  - alert: \
                         SupernodeSlow\n    runbook: docs/OPERATING.md#supernodeslow\n";
    const HANDBOOK: &str = "### SupernodeDown\n### SupernodeSlow\n";
    const PAGE: &str = "\"SupernodeSlow\"";

    #[test]
    fn an_alert_has_its_section_and_its_warning_and_a_warning_its_alert() {
        assert_eq!(alerts(RULES, HANDBOOK, PAGE), Findings::new());
        assert_eq!(
            alerts(RULES, "### SupernodeUp\n### SupernodeSlow\n", "\"SupernodeSlow\" \"SupernodeFast\""),
            [
                "SupernodeDown: docs/OPERATING.md has no section of this name",
                "SupernodeUp: the rules have no such alert",
                "SupernodeFast: the rules have no such alert",
            ]
        );
        let untold = ["SupernodeSlow: the built-in page has no such warning"];
        assert_eq!(alerts(RULES, HANDBOOK, ""), untold);
        assert_eq!(alerts(RULES, HANDBOOK, "#[cfg(test)] \"SupernodeSlow\""), untold);
        let wrong = RULES.replace("#supernodedown", "#down");
        assert!(alerts(&wrong, HANDBOOK, PAGE)[0].contains("its runbook is"));
        assert_eq!(alerts("", "", ""), ["the rules have 0 alerts and 0 runbook links"]);
    }

    #[test]
    fn every_query_of_a_dashboard_is_found_and_a_panel_without_one_is_refused() {
        let file = |panels: &str| SourceFile { path: "d.json".into(), text: format!("{{\"panels\":[{panels}]}}") };
        let row = "{\"type\":\"row\",\"title\":\"Now\"}";
        let panel = "{\"type\":\"stat\",\"title\":\"T\",\"targets\":[{\"expr\":\"rate(a{i=~\\\"$instance\\\"}[$__rate_interval])\"}]}";
        let found = queries(&[file(&format!("{row},{panel}"))]).expect("a dashboard");
        assert_eq!((found.len(), &*found[0].name), (1, "d.json: T"));
        assert_eq!(found[0].promql, "rate(a{i=~\".*\"}[5s])");
        queries(&[file("{\"type\":\"stat\",\"title\":\"T\"}")]).expect_err("no query");
        queries(&[]).expect_err("no dashboards");
    }

    #[test]
    fn what_a_unit_starts_may_stand_on_several_lines() {
        let unit = "[Service]\nExecStart=/usr/bin/supernode-call listen \\\n    --invite-file %E/supernode/invite\nUMask=0077\n";
        let words = ["/usr/bin/supernode-call", "listen", "--invite-file", "/home/x/supernode/invite"];
        assert_eq!(exec_start(unit, "/home/x"), words);
        assert!(exec_start("[Service]\n", "/home/x").is_empty());
    }
}
