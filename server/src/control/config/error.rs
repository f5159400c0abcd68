//! What is wrong with a configuration: all of it at once, each with where it stands.

use std::{fmt, io, path::PathBuf};

use super::layers::Origin;

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot read it", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML.
    #[error("{path}: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what, on several lines.
        reason: String,
    },
    /// Keys or values that cannot be.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
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
