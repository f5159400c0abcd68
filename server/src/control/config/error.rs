//! What is wrong with a configuration: all of it at once, each with where it stands.

use std::{fmt, io, path::PathBuf};

use supernode_proto::troubles;

use super::layers::Origin;

troubles! {
    /// Why a configuration is of no use.
    pub ConfigError as WORDS:
    Read { path: PathBuf, source: io::Error }, "{path}: cannot read it",
        "the configuration is not there, or this user may not read it",
        "compare the path with what was meant (--config), or let this user read the file";
    Syntax { path: PathBuf, reason: String }, "{path}: {reason}",
        "the file is no TOML: a quote, bracket or equals sign is missing or too many at the place that is shown",
        "mend that line; `supernode config --template` prints a file that is right";
    Invalid { problems: Vec<Problem> }, "{lines}" with (lines = lines(problems)),
        "as is said: what may stand there follows each of them",
        "put right each line at the place that it names: a file, a variable or an option; docs/CONFIG.md has every key";
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// One thing that is wrong: `origin: path = value: bound (hint)`, or without the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was said.
    pub origin: Origin,
    /// Of which key.
    pub path: String,
    /// What was said, as TOML writes it. Of an unknown key it is never shown: it may have been meant for one that is
    /// secret.
    pub value: Option<String>,
    /// What it may be.
    pub bound: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, path, value, bound, hint } = self;
        match value {
            Some(value) => write!(f, "{origin}: {path} = {value}: {bound}")?,
            None => write!(f, "{origin}: {path}: {bound}")?,
        }
        if hint.is_empty() { Ok(()) } else { write!(f, " ({hint})") }
    }
}
