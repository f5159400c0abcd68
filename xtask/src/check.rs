//! `cargo xtask check`: what can be known of a change within a minute or so.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::{
    gate,
    workspace::{self, Run},
};

/// Where changes end up.
const MAIN: &str = "main";
/// Files of the workspace's root that reach every package.
const REACH_ALL: &[&str] = &["Cargo.toml", "Cargo.lock", ".cargo/config.toml"];
/// Tests that take long or need a machine to themselves: they are for the gate.
const LONG: &[&str] = &[
    "acme",
    "calls",
    "control_reload",
    "control_serve",
    "idle",
    "lying",
    "memory",
    "model",
    "newcomers",
    "pages",
    "relay",
];

/// Formats, lints and tests, and says whether all is well, and what it left out.
///
/// # Errors
/// If git or cargo cannot say what there is.
pub fn run(since: Option<&str>) -> anyhow::Result<bool> {
    let begun = Instant::now();
    let base = since.map_or_else(base, |commit| Ok(commit.to_owned()))?;
    let packages = packages()?;
    let changed = changed(&base)?;
    println!("{} files differ from {}", changed.len(), base.get(..12).unwrap_or(&base));
    let chosen = Chosen::of(&packages, &changed);
    let result = gate::lints().and_then(|()| chosen.test(&packages));
    println!("\n{}", chosen.left_out(&packages));
    let seconds = begun.elapsed().as_secs_f32();
    match result {
        Ok(tests) => println!("All well: format, rules of sources, lints and {tests} test programs, in {seconds:.0} s"),
        Err(error) => {
            println!("FAILED after {seconds:.0} s: {error:#}");
            return Ok(false);
        }
    }
    Ok(true)
}

/// The commit where this branch left main.
fn base() -> anyhow::Result<String> {
    let merge_base = Run::new(&["git", "merge-base", "HEAD", MAIN]).output();
    // Without such a branch, what is not committed.
    let base = merge_base.or_else(|_| Run::new(&["git", "rev-parse", "HEAD"]).output())?;
    Ok(base.trim().to_owned())
}

/// Paths from the workspace's root that differ from `base`, files that git does not know yet included.
fn changed(base: &str) -> anyhow::Result<BTreeSet<String>> {
    let differ = Run::new(&["git", "diff", "--name-only", "--no-renames", base]).output()?;
    let new = Run::new(&["git", "ls-files", "--others", "--exclude-standard"]).output()?;
    Ok(differ.lines().chain(new.lines()).map(str::to_owned).collect())
}

/// A package of the workspace, as `cargo metadata` describes it.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Of packages of the workspace.
    path: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    test: bool,
}

impl Target {
    fn is(&self, kind: &str) -> bool {
        self.test && self.kind.iter().any(|one| one == kind)
    }
}

impl Package {
    /// From the workspace's root.
    fn directory(&self) -> &Path {
        let directory = self.manifest_path.parent().unwrap_or(Path::new(""));
        directory.strip_prefix(workspace::root()).unwrap_or(directory)
    }

    fn tests(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().filter(|target| target.is("test")).map(|target| target.name.as_str())
    }
}

fn packages() -> anyhow::Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let words = ["cargo", "metadata", "--locked", "--format-version", "1", "--no-deps"];
    let metadata: Metadata = serde_json::from_str(&Run::new(&words).output()?).context("cargo metadata")?;
    Ok(metadata.packages)
}

/// What is to be tested.
#[derive(Debug, PartialEq, Eq)]
struct Chosen {
    /// Packages with a changed file.
    changed: BTreeSet<String>,
    /// Packages that depend on one of those, by however many others.
    reached: BTreeSet<String>,
}

impl Chosen {
    fn of(packages: &[Package], files: &BTreeSet<String>) -> Self {
        // The package of a file is the innermost above it.
        let owner = |file: &String| {
            let above = packages.iter().filter(|package| Path::new(file).starts_with(package.directory()));
            above.max_by_key(|package| package.directory().components().count()).map(|package| package.name.clone())
        };
        let changed: BTreeSet<String> = files.iter().filter_map(owner).collect();
        let mut reached = changed.clone();
        if files.iter().any(|file| REACH_ALL.contains(&file.as_str())) {
            reached.extend(packages.iter().map(|package| package.name.clone()));
        }
        loop {
            let uses = |package: &&Package| {
                package.dependencies.iter().any(|used| used.path.is_some() && reached.contains(&used.name))
            };
            let more: Vec<String> = packages.iter().filter(uses).map(|package| package.name.clone()).collect();
            let before = reached.len();
            reached.extend(more);
            if reached.len() == before {
                break;
            }
        }
        reached.retain(|name| !changed.contains(name));
        Self { changed, reached }
    }

    /// Builds and runs the tests; how many programs that were.
    fn test(&self, packages: &[Package]) -> anyhow::Result<usize> {
        if self.changed.is_empty() && self.reached.is_empty() {
            return Ok(0);
        }
        // Of the whole workspace, because a choice of packages would be a choice of features of all they depend on.
        let mut words = vec!["cargo", "test", "--workspace", "--locked", "--no-run", "--lib"];
        words.push("--message-format=json-render-diagnostics");
        for package in packages.iter().filter(|package| self.changed.contains(&package.name)) {
            let bins = package.targets.iter().filter(|target| target.is("bin"));
            words.extend(bins.flat_map(|target| ["--bin", &target.name]));
            words.extend(package.tests().filter(|name| !LONG.contains(name)).flat_map(|name| ["--test", name]));
        }
        println!("\n== tests: {}", words.join(" "));
        let built = Run::new(&words).output()?;
        let mut programs = 0;
        for Built { package, kind, program } in self.programs(packages, &built)? {
            println!("\n-- {} {kind}", package.name);
            let mut command = Command::new(&program);
            let directory = workspace::root().join(package.directory());
            command.arg("--quiet").env("CARGO_MANIFEST_DIR", &directory).current_dir(directory);
            if !command.status().with_context(|| program.display().to_string())?.success() {
                bail!("a test of {} failed: {}", package.name, program.display());
            }
            programs += 1;
        }
        Ok(programs)
    }

    /// Those of what cargo says it built that are to be run: of what was changed everything, of what that reaches the unit
    /// tests of libraries.
    fn programs<'a>(&self, packages: &'a [Package], built: &str) -> anyhow::Result<Vec<Built<'a>>> {
        #[derive(Deserialize)]
        struct Artifact {
            manifest_path: PathBuf,
            target: Target,
            profile: Profile,
            executable: Option<PathBuf>,
        }
        #[derive(Deserialize)]
        struct Profile {
            test: bool,
        }
        let by_manifest: BTreeMap<&Path, &Package> =
            packages.iter().map(|package| (package.manifest_path.as_path(), package)).collect();
        let mut programs = Vec::new();
        for line in built.lines().filter(|line| line.contains(r#""reason":"compiler-artifact""#)) {
            let Artifact { manifest_path, target, profile, executable } =
                serde_json::from_str(line).context("cargo's messages")?;
            let (Some(program), Some(&package)) = (executable, by_manifest.get(manifest_path.as_path())) else {
                continue;
            };
            let kind = target.kind.first().cloned().unwrap_or_default();
            let wanted = self.changed.contains(&package.name) || self.reached.contains(&package.name) && kind == "lib";
            if profile.test && wanted {
                programs.push(Built { package, kind: format!("{kind} {}", target.name), program });
            }
        }
        Ok(programs)
    }

    /// What was not tested, and how it is.
    fn left_out(&self, packages: &[Package]) -> String {
        let mut left_out = Vec::new();
        for package in packages {
            let changed = self.changed.contains(&package.name);
            if changed || self.reached.contains(&package.name) {
                let tests: Vec<&str> = package.tests().filter(|name| !changed || LONG.contains(name)).collect();
                left_out.extend((!tests.is_empty()).then(|| format!("{} ({})", package.name, tests.join(", "))));
            }
        }
        let tests = if left_out.is_empty() { "none".to_owned() } else { left_out.join(", ") };
        format!(
            "Left out: integration tests of {tests}; doc tests, examples, and what the gate does with whole programs. \
             `cargo xtask test` does all."
        )
    }
}

struct Built<'a> {
    package: &'a Package,
    kind: String,
    program: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, directory: &str, uses: &[&str], tests: &[&str]) -> Package {
        let target = |kind: &str, name: &str| Target { name: name.into(), kind: vec![kind.into()], test: true };
        Package {
            name: name.into(),
            manifest_path: workspace::root().join(directory).join("Cargo.toml"),
            dependencies: uses
                .iter()
                .map(|name| Dependency { name: (*name).into(), path: Some("somewhere".into()) })
                .collect(),
            targets: tests.iter().map(|name| target("test", name)).chain([target("lib", name)]).collect(),
        }
    }

    fn some() -> Vec<Package> {
        let mut some = vec![
            package("wire", "wire", &[], &["golden"]),
            package("relay", "relay", &["wire"], &["relay", "short"]),
            package("kit", "relay/kit", &["relay"], &[]),
            package("sound", "sound", &[], &[]),
        ];
        some[3].dependencies.push(Dependency { name: "wire".into(), path: None });
        some
    }

    fn chosen(files: &[&str]) -> (Vec<String>, Vec<String>) {
        let Chosen { changed, reached } = Chosen::of(&some(), &files.iter().map(|file| (*file).to_owned()).collect());
        (changed.into_iter().collect(), reached.into_iter().collect())
    }

    #[test]
    fn a_changed_file_chooses_its_package_and_those_that_depend_on_it() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            chosen(&["wire/src/lib.rs"]),
            (names(&["wire"]), names(&["kit", "relay"])),
            "not its namesake from elsewhere"
        );
        assert_eq!(chosen(&["relay/kit/src/lib.rs"]), (names(&["kit"]), names(&[])), "the innermost");
        assert_eq!(chosen(&["docs/OPERATING.md"]), (names(&[]), names(&[])));
        assert_eq!(chosen(&["Cargo.lock"]), (names(&[]), names(&["kit", "relay", "sound", "wire"])));
    }

    #[test]
    fn what_was_changed_runs_whole_what_it_reaches_by_its_unit_tests_and_what_is_left_out_is_named() {
        let packages = some();
        let chosen = Chosen::of(&packages, &BTreeSet::from(["wire/src/lib.rs".to_owned()]));
        let line = |directory: &str, kind: &str, name: &str, test: bool| {
            let manifest = workspace::root().join(directory).join("Cargo.toml");
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":{manifest:?},"target":{{"kind":["{kind}"],"name":"{name}","test":true}},"profile":{{"test":{test}}},"executable":"/built/{name}"}}"#
            )
        };
        let built = [
            line("wire", "test", "golden", true),
            line("relay", "lib", "relay", true),
            line("relay", "bin", "relay", false),
            line("sound", "lib", "sound", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let programs = chosen.programs(&packages, &built.join("\n")).expect("they are cargo's messages");
        let run: Vec<&str> = programs.iter().map(|built| built.kind.as_str()).collect();
        assert_eq!(run, ["test golden", "lib relay"]);
        assert!(chosen.left_out(&packages).contains("integration tests of relay (relay, short);"));
        let chosen = Chosen::of(&packages, &BTreeSet::from(["relay/src/lib.rs".to_owned()]));
        assert!(chosen.left_out(&packages).contains("integration tests of relay (relay);"));
    }
}
