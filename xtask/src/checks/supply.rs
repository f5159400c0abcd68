//! Licences, bans and sources of everything we build on, against `deny.toml`: what `cargo deny check licenses bans
//! sources` checks, of its settings those we use.

use std::collections::BTreeSet;

use anyhow::Context;
use serde::Deserialize;

use super::Findings;

/// The part of `deny.toml` that is checked here. A key that is not known here is an error, so that none is ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which platforms' dependencies count.
    pub graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
    #[serde(rename = "advisories")]
    _advisories: toml::Table,
}

/// See [`Policy::graph`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// Target triples.
    pub targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Licenses {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Bans {
    multiple_versions: Allow,
    wildcards: Deny,
    allow_wildcard_paths: bool,
    deny: Vec<Banned>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Sources {
    unknown_registry: Deny,
    unknown_git: Deny,
    allow_registry: BTreeSet<String>,
    allow_git: BTreeSet<String>,
}

/// The only setting of its kind that is checked here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deny {
    Deny,
}

/// The only setting of its kind that is checked here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Allow {
    Allow,
}

impl Policy {
    /// Reads `deny.toml`.
    ///
    /// # Errors
    /// If it is no TOML or has settings that are not checked here.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let policy: Self = toml::from_str(text).context("deny.toml")?;
        let Bans { multiple_versions: Allow::Allow, wildcards: Deny::Deny, .. } = policy.bans;
        let Sources { unknown_registry: Deny::Deny, unknown_git: Deny::Deny, .. } = policy.sources;
        Ok(policy)
    }
}

/// What `cargo metadata` says of the packages.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
}

impl Metadata {
    /// Reads what `cargo metadata --format-version 1` printed.
    ///
    /// # Errors
    /// If it is something else.
    pub fn parse(json: &str) -> anyhow::Result<Self> {
        serde_json::from_str(json).context("cargo metadata")
    }

    /// The packages that are really built for the platform asked for.
    fn built(&self) -> impl Iterator<Item = &Package> {
        let ids: BTreeSet<&str> = self.resolve.nodes.iter().map(|node| &*node.id).collect();
        self.packages.iter().filter(move |package| ids.contains(&*package.id))
    }
}

/// Everything about the packages that the policy does not allow.
pub fn violations(policy: &Policy, metadata: &Metadata) -> Findings {
    let mut findings = Findings::new();
    for package in metadata.built() {
        findings.extend(licence(&policy.licenses, package));
        findings.extend(ban(&policy.bans, package));
        findings.extend(source(&policy.sources, package));
        findings.extend(wildcards(&policy.bans, package));
    }
    let unused = policy
        .licenses
        .exceptions
        .iter()
        .filter(|exception| metadata.packages.iter().all(|package| package.name != exception.name));
    findings.extend(unused.map(|exception| format!("deny.toml: the exception for {} is not used", exception.name)));
    findings
}

fn licence(policy: &Licenses, package: &Package) -> Option<String> {
    let Package { name, version, .. } = package;
    let Some(expression) = &package.license else { return Some(format!("{name} {version}: names no licence")) };
    let exception = policy.exceptions.iter().find(|exception| exception.name == *name);
    let allowed = |licence: &str| {
        policy.allow.contains(licence) || exception.is_some_and(|exception| exception.allow.contains(licence))
    };
    match satisfied(expression, &allowed) {
        Some(true) => None,
        Some(false) => Some(format!("{name} {version}: licence {expression}: not allowed by deny.toml")),
        None => Some(format!("{name} {version}: licence {expression}: is no SPDX expression")),
    }
}

/// Whether allowed licences satisfy an SPDX expression (AND binds closer than OR; an old `/` means OR; SPDX 3 takes the
/// operators in lower case too), or `None` if it is none. A licence with an exception is allowed if the licence is, as
/// exceptions only permit more.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let result = any_of(&mut rest, allowed)?;
    rest.is_empty().then_some(result)
}

fn any_of(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut result = all_of(words, allowed)?;
    while let ["OR" | "or", rest @ ..] = words {
        *words = rest;
        result |= all_of(words, allowed)?;
    }
    Some(result)
}

fn all_of(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut result = one(words, allowed)?;
    while let ["AND" | "and", rest @ ..] = words {
        *words = rest;
        result &= one(words, allowed)?;
    }
    Some(result)
}

fn one(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    match words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any_of(words, allowed)?;
            *words = words.strip_prefix(&[")"])?;
            Some(result)
        }
        ["AND" | "and" | "OR" | "or" | "WITH" | "with" | ")", ..] | [] => None,
        [licence, "WITH" | "with", _, rest @ ..] | [licence, rest @ ..] => {
            *words = rest;
            Some(allowed(licence))
        }
    }
}

fn ban(policy: &Bans, package: &Package) -> Option<String> {
    let banned = policy.deny.iter().find(|banned| banned.name == package.name)?;
    Some(format!("{} {}: banned: {}", package.name, package.version, banned.reason))
}

fn source(policy: &Sources, package: &Package) -> Option<String> {
    let source = package.source.as_deref()?;
    let known = match source.split_once('+') {
        Some(("registry", registry)) => policy.allow_registry.contains(registry),
        Some(("git", repository)) => policy.allow_git.contains(repository),
        _ => false,
    };
    (!known).then(|| format!("{} {}: comes from {source}: not allowed by deny.toml", package.name, package.version))
}

/// Wildcard versions of our own manifests; a path in the workspace needs no version.
fn wildcards(policy: &Bans, package: &Package) -> Findings {
    let wild = package.dependencies.iter().filter(|dependency| {
        let ours = package.source.is_none();
        ours && dependency.req == "*" && !(dependency.path.is_some() && policy.allow_wildcard_paths)
    });
    wild.map(|dependency| format!("{}: takes any version of {}", package.name, dependency.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY_TOML: &str = include_str!("../../../deny.toml");

    fn found(package: &str) -> Findings {
        let mut policy = Policy::parse(DENY_TOML).expect("our own policy");
        policy.licenses.exceptions.retain(|exception| package.contains(&exception.name));
        let json = format!(
            r#"{{"packages": [{{"id": "p", "version": "1.0.0", "dependencies": [], {package}}}],
                "resolve": {{"nodes": [{{"id": "p"}}]}}}}"#
        );
        violations(&policy, &Metadata::parse(&json).expect("valid JSON"))
    }

    const CRATES_IO: &str = r#""source": "registry+https://github.com/rust-lang/crates.io-index""#;

    #[test]
    fn what_the_policy_does_not_allow_is_found() {
        assert!(found(&format!(r#""name": "good", "license": "MIT OR GPL-3.0", {CRATES_IO}"#)).is_empty());
        let licence = found(&format!(r#""name": "bad", "license": "GPL-3.0", {CRATES_IO}"#));
        assert_eq!(licence, ["bad 1.0.0: licence GPL-3.0: not allowed by deny.toml"]);
        assert_eq!(found(&format!(r#""name": "bad", "license": null, {CRATES_IO}"#)), ["bad 1.0.0: names no licence"]);
        assert_eq!(found(&format!(r#""name": "openssl", "license": "MIT", {CRATES_IO}"#)).len(), 1);
        assert_eq!(found(r#""name": "bad", "license": "MIT", "source": "git+https://example.org/bad""#).len(), 1);
        assert_eq!(found(r#""name": "bad", "license": "MIT", "source": "registry+https://example.org""#).len(), 1);
    }

    #[test]
    fn an_exception_is_for_its_crate_only_and_must_be_used() {
        assert!(found(&format!(r#""name": "hpke-rs", "license": "MPL-2.0", {CRATES_IO}"#)).is_empty());
        assert_eq!(found(&format!(r#""name": "other", "license": "MPL-2.0", {CRATES_IO}"#)).len(), 1);
        let (policy, nothing) =
            (Policy::parse(DENY_TOML).expect("our own policy"), r#"{"packages": [], "resolve": {"nodes": []}}"#);
        let unused = violations(&policy, &Metadata::parse(nothing).expect("valid JSON"));
        assert_eq!(unused.len(), policy.licenses.exceptions.len());
    }

    #[test]
    fn a_wildcard_version_of_ours_is_found() {
        let depends = |req: &str, path: &str| {
            let json = format!(
                r#"{{"packages": [{{"id": "p", "name": "ours", "version": "1.0.0", "license": "MIT", "source": null,
                    "dependencies": [{{"name": "other", "req": "{req}", "path": {path}}}]}}],
                    "resolve": {{"nodes": [{{"id": "p"}}]}}}}"#
            );
            let mut policy = Policy::parse(DENY_TOML).expect("our own policy");
            policy.licenses.exceptions.clear();
            violations(&policy, &Metadata::parse(&json).expect("valid JSON"))
        };
        assert_eq!(depends("*", "null"), ["ours: takes any version of other"]);
        assert!(depends("*", "\"/other\"").is_empty());
        assert!(depends("^1", "null").is_empty());
    }

    #[test]
    fn expressions_mean_what_spdx_says() {
        let mit_only = |expression| satisfied(expression, &|licence| licence == "MIT");
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("ISC", Some(false)),
            ("MIT OR ISC", Some(true)),
            ("ISC/MIT", Some(true)),
            ("MIT AND ISC", Some(false)),
            ("ISC AND ISC OR MIT", Some(true)),
            ("ISC AND (ISC OR MIT)", Some(false)),
            ("(MIT OR ISC) AND MIT", Some(true)),
            ("MIT WITH LLVM-exception", Some(true)),
            ("ISC or MIT", Some(true)),
            ("MIT and ISC", Some(false)),
            ("MIT with LLVM-exception", Some(true)),
            ("MIT Or ISC", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT ISC", None),
            ("", None),
        ] {
            assert_eq!(mit_only(expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_setting_that_is_not_checked_here_is_refused() {
        let error = Policy::parse(&DENY_TOML.replace("wildcards = ", "wildcard = ")).expect_err("unknown key");
        assert!(format!("{error:#}").contains("wildcard"), "{error:#}");
        Policy::parse(&DENY_TOML.replace(r#"unknown-git = "deny""#, r#"unknown-git = "warn""#)).expect_err("weaker");
    }
}
