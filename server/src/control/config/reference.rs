//! The table of keys as documents, and a configuration as text.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{
    key::{Key, Reload, Setting},
    keys::{KEYS, SECTIONS},
    layers::Loaded,
    memory::{self, Machine},
    values::Config,
};
use crate::core::limits::Limits;

/// Columns of a line of the documents.
const WIDTH: usize = 120;

/// `docs/CONFIG.md`
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for (section, about) in SECTIONS {
        let _ = write!(text, "\n## `[{section}]`\n\n");
        push_wrapped(&mut text, "", &unbroken(about));
        for key in keys_of(section) {
            let _ = write!(text, "\n### `{}`\n\n", key.path);
            push_wrapped(&mut text, "", key.what);
            text.push('\n');
            push_wrapped(&mut text, "- ", &format!("must be: {}", key.bound()));
            push_wrapped(&mut text, "- ", &format!("default: {}", default_of(key)));
            if !key.cost.is_empty() {
                push_wrapped(&mut text, "- ", &format!("cost: {}", key.cost));
            }
            push_wrapped(&mut text, "- ", &format!("change: {}", when(key)));
            push_wrapped(&mut text, "- ", &format!("environment: `{}`", key.variable()));
        }
    }
    text
}

/// `deploy/supernode.toml`: every key with what it is, and its default as a remark.
pub fn template() -> String {
    let mut text = String::from(TEMPLATE_HEAD);
    for (section, about) in SECTIONS {
        text.push('\n');
        push_wrapped(&mut text, "# ", &unbroken(about));
        let _ = writeln!(text, "[{section}]");
        for key in keys_of(section) {
            text.push('\n');
            push_wrapped(&mut text, "# ", key.what);
            push_wrapped(&mut text, "# ", &format!("Must be {}.", key.bound()));
            if !key.cost.is_empty() {
                push_wrapped(&mut text, "# ", key.cost);
            }
            push_wrapped(&mut text, "# ", &format!("Change: {}.", when(key)));
            if memory::follows(key.path) {
                push_wrapped(&mut text, "# ", "The default follows the memory; this is that of 40 GiB and more.");
            }
            match key.get(&Config::default()) {
                Some(value) => {
                    let _ = writeln!(text, "#{} = {value}", key.name());
                }
                None => {
                    push_wrapped(&mut text, "# ", &format!("Not set: {}.", key.unset));
                    let _ = writeln!(text, "#{} =", key.name());
                }
            }
        }
    }
    text
}

/// A key as it is in effect.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    path: String,
    /// As JSON; null where it is not set.
    value: serde_json::Value,
    /// As TOML writes it.
    text: Option<String>,
    /// Where that was said; of one that is not set, what happens then.
    origin: String,
    /// What it will be after the next start, if that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Row {
    fn new(key: &Key, loaded: &Loaded) -> Self {
        let setting = key.get(&loaded.config);
        Self {
            path: key.path.to_owned(),
            value: setting.as_ref().map_or(serde_json::Value::Null, Setting::to_json),
            text: setting.as_ref().map(ToString::to_string),
            origin: if setting.is_some() { loaded.origin(key).to_string() } else { key.unset.to_owned() },
            next: None,
        }
    }
}

/// Every key as a relay that starts with this would have it.
pub fn rows(loaded: &Loaded) -> Vec<Row> {
    KEYS.iter().map(|key| Row::new(key, loaded)).collect()
}

/// Every key as a relay has it that was started with one configuration and has read another one since.
pub fn rows_in_effect(started: &Loaded, read: &Loaded) -> Vec<Row> {
    let row = |key: &Key| match key.reload {
        Reload::Live => Row::new(key, read),
        Reload::Restart => {
            let next = key.get(&read.config);
            let next =
                (next != key.get(&started.config)).then(|| next.map_or("not set".to_owned(), |next| next.to_string()));
            Row { next, ..Row::new(key, started) }
        }
    };
    KEYS.iter().map(row).collect()
}

/// Values as TOML, each with where it was said.
pub fn effective(rows: &[Row]) -> String {
    let line = |row: &Row| match &row.text {
        Some(text) => format!("{} = {text}", row.path),
        None => format!("# {} is not set", row.path),
    };
    let lines: Vec<String> = rows.iter().map(line).collect();
    let width = lines.iter().map(String::len).filter(|width| *width < 60).max().unwrap_or(0);
    lines.iter().zip(rows).fold(String::new(), |mut text, (line, row)| {
        let next = row.next.as_ref().map_or_else(String::new, |next| format!("; after the next start: {next}"));
        let _ = writeln!(text, "{line:width$}  # {}{next}", row.origin);
        text
    })
}

/// The same as JSON: path to value (null where it is not set), origin, and what it will be after the next start.
pub fn effective_json(rows: &[Row]) -> serde_json::Value {
    let entry = |row: &Row| {
        let mut entry = serde_json::json!({ "value": row.value, "origin": row.origin });
        if let Some(next) = &row.next {
            entry["next"] = next.as_str().into();
        }
        (row.path.clone(), entry)
    };
    serde_json::Value::Object(rows.iter().map(entry).collect())
}

fn keys_of(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section() == section)
}

fn default_of(key: &Key) -> String {
    let value = |config: &Config| {
        key.get(config).map_or_else(|| format!("not set: {}", key.unset), |value| format!("`{value}`"))
    };
    if !memory::follows(key.path) {
        return value(&Config::default());
    }
    let small = Limits::default_for(Machine { memory_bytes: memory::SMALLEST_BYTES, cores: 2 });
    let small = value(&Config { limits: small, ..Config::default() });
    format!(
        "follows the memory: {small} with 512 MiB and two cores, {} with 40 GiB and more",
        value(&Config::default())
    )
}

fn when(key: &Key) -> &'static str {
    match key.reload {
        Reload::Live => "taken over while the relay runs",
        Reload::Restart => "at the next start",
    }
}

/// A text of several lines in the source as one.
fn unbroken(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Breaks at spaces. Each line begins with `prefix`, but of a list only the first.
fn push_wrapped(text: &mut String, prefix: &str, words: &str) {
    let follow = if prefix == "- " { "  " } else { prefix };
    let mut line = prefix.to_owned();
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            follow.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(text, "{line}");
}

const INTRODUCTION: &str = "\
# Configuration

Every key of the relay. `supernode config --reference` writes this page from the table that the program checks by, and
the gate fails when they differ.

What is set comes from four places; the later wins:

1. the defaults below,
2. a TOML file: `--config FILE`, else `/etc/supernode/supernode.toml` whenever it is there
   ([deploy/supernode.toml](../deploy/supernode.toml) has every key with its default),
3. the environment: `SUPERNODE__SECTION__KEY`, such as `SUPERNODE__LIMITS__ROOMS_MAX=4`; a list with commas,
4. options of `supernode serve`.

A key that is unknown, a value out of bounds and a setting that would do nothing are errors, also in a layer that a
later one overrides. Each is named with where it stands, its value, its bound and the key that may have been meant; of an
unknown key not the value, which may have been meant for a secret one:

```text
/etc/supernode/supernode.toml: limits.room_max: unknown key (did you mean limits.rooms_max?)
```

`supernode check-config [FILE]` checks without running, with the files that the configuration names, and ends with 0 if
a relay would start with it and clients would take what it shows, and with 1 if not. `supernode config` prints what the
running relay goes by, where each value was said, and what will be different after its next start; if none runs, or a file
or an option is named, what a relay would start with. Secrets are masked, the user, password and query of an address as
well. Both take `--json`.

On SIGHUP, and within seconds of a change to the file or to one that it names (certificate, key, allow-list), a running
relay reads them again, also a file that was not there when it started; environment and options are those of its start. A
file that was there and is gone changes nothing. All of it is checked first: if anything is wrong, nothing changes and the
log says what is. Keys that only a start can change are named in one warning.
";

const TEMPLATE_HEAD: &str = "\
# Configuration of a Supernode relay: every key, with its default. Written by `supernode config --template`; the same
# as a page is docs/CONFIG.md. Remove the # before a key to set it, then: supernode check-config FILE
";
