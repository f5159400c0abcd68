//! The operator's handbook lists every metric, and only metrics that there are.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use supernode_server::control::{config::memory, metrics::Metrics};

const BEGIN: &str = "<!-- metrics: SUPERNODE_BLESS=1 cargo test -p supernode-server --test control_operating -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// Two tests write their parts of one file.
static WRITING: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn handbook() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATING.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

/// One entry for each metric, broken at 120 columns.
fn listing() -> String {
    let mut text = String::new();
    for metric in Metrics::table() {
        let label = if metric.label.is_empty() { String::new() } else { format!(" by `{}`", metric.label) };
        let mut line = format!("- `{}` ({}{label}):", metric.name, metric.kind);
        for word in metric.help.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > 120 {
                text.push_str(&line);
                line = String::from("\n ");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[test]
fn the_handbook_lists_every_metric_as_the_relay_describes_it() {
    let _alone = WRITING.lock();
    let (path, text) = handbook();
    let (before, rest) = text.split_once(BEGIN).expect("a place for the metrics");
    let (listed, after) = rest.split_once(END).expect("an end of that place");
    if env::var_os("SUPERNODE_BLESS").is_some() {
        return fs::write(path, [before, BEGIN, &listing(), END, after].concat()).expect("written");
    }
    assert_eq!(listed, listing(), "docs/OPERATING.md is behind: SUPERNODE_BLESS=1 cargo test --test control_operating");
}

const MEMORY: &str = "<!-- memory: SUPERNODE_BLESS=1 cargo test -p supernode-server --test control_operating -->\n";
const MEMORY_END: &str = "<!-- end of memory -->\n";

#[test]
fn the_handbook_says_what_the_relay_can_be_made_to_hold() {
    let _alone = WRITING.lock();
    let (path, text) = handbook();
    let (before, rest) = text.split_once(MEMORY).expect("a place for the table");
    let (table, after) = rest.split_once(MEMORY_END).expect("an end of that place");
    if env::var_os("SUPERNODE_BLESS").is_some() {
        return fs::write(path, [before, MEMORY, &memory::markdown(), MEMORY_END, after].concat()).expect("written");
    }
    assert_eq!(
        table,
        memory::markdown(),
        "docs/OPERATING.md is behind: SUPERNODE_BLESS=1 cargo test --test control_operating"
    );
}

#[test]
fn no_document_names_a_metric_that_is_not_there() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for metric in Metrics::table() {
        known.insert(metric.name.to_owned());
        if metric.kind == "histogram" {
            known.extend(["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", metric.name)));
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = 0;
    for place in ["docs", "deploy/prometheus", "deploy/grafana"] {
        for entry in fs::read_dir(root.join(place)).unwrap_or_else(|error| panic!("{place}: {error}")) {
            let path = entry.expect("an entry").path();
            if !path.is_file() || path.extension().is_some_and(|kind| kind == "png") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
                if looks_like_a_metric(word) {
                    assert!(known.contains(word), "{}: there is no metric {word}", path.display());
                    named += 1;
                }
            }
        }
    }
    assert!(named > known.len() / 2, "{named} metrics found in the documents");
}

/// Crates are called `supernode_...` too, packages have a version behind it, recorded series a colon, and what the load
/// generator writes is not the relay's.
fn looks_like_a_metric(word: &str) -> bool {
    let crates = ["supernode_proto", "supernode_server", "supernode_client", "supernode_e2ee", "supernode_benches"];
    let named = word.strip_prefix("supernode_").is_some_and(|rest| rest.starts_with(char::is_alphabetic));
    let is_ours = !word.contains(':') && !word.starts_with("supernode_load_");
    named && is_ours && !crates.iter().any(|name| word.starts_with(name))
}
