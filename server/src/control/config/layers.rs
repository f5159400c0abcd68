//! Defaults < file < environment < flags. Every layer is checked whole, also where a higher one overrides it.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use config::{Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::{
    combination,
    error::{ConfigError, Problem},
    key::Key,
    keys::{self, KEYS},
    memory::{self, Machine},
    values::Config,
};
use crate::{control::files, core::limits::Limits};

/// The file that is read where none is named and it is there.
pub const DEFAULT_FILE: &str = "/etc/supernode/supernode.toml";
/// What every environment variable of ours begins with.
const PREFIX: &str = "SUPERNODE";
/// The variable that Rust programs commonly take their log filter from.
const RUST_LOG: &str = "RUST_LOG";
/// With every key in it a file has 30 KiB; more than this is some other file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How alike two keys must be, from 0 to 1, for one to be what the other was meant to be.
const ALIKE: f64 = 0.6;

/// Where a configuration comes from. Loading the same sources again is how it is reloaded.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file, if there may be one.
    pub file: Option<PathBuf>,
    /// Whether it need not be there: nobody has named it, and it has not been read yet.
    pub file_may_lack: bool,
    /// Environment variables, ours and others.
    pub environment: BTreeMap<String, String>,
    /// What was said on the command line.
    pub flags: Vec<Flag>,
    /// What defaults follow; without it, they are those of a large machine.
    pub machine: Option<Machine>,
}

/// A key that was set on the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// Its name there, such as `--listen`.
    pub flag: &'static str,
    /// The key that it sets.
    pub path: &'static str,
    /// To what.
    pub value: String,
}

/// A configuration that holds.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    origins: BTreeMap<&'static str, Origin>,
}

/// Where a value was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// Nowhere: it follows the memory that this process may use, so many bytes.
    Memory(u64),
    /// In this file.
    File(PathBuf),
    /// In this environment variable.
    Environment(String),
    /// With this option.
    Flag(&'static str),
}

impl Sources {
    /// The sources of this process: the file that was named, else [`DEFAULT_FILE`] whenever it is there.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let file_may_lack = file.is_none();
        // A variable whose name or value is no text is none of ours.
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        let environment = std::env::vars_os().filter_map(text).collect();
        let file = Some(file.unwrap_or_else(|| DEFAULT_FILE.into()));
        Self { file, file_may_lack, environment, flags, machine: Machine::of_process() }
    }

    /// The file, if there is one.
    pub fn file_there(&self) -> Option<&Path> {
        self.file.as_deref().filter(|path| !self.file_may_lack || is_there(path))
    }

    /// From now on a file that has been there has to be: one that is being replaced must not look like none.
    pub(in crate::control) fn expect_file(&mut self) {
        self.file_may_lack = self.file_there().is_none();
    }

    /// Reads and checks every layer.
    ///
    /// # Errors
    /// See [`ConfigError`]; of invalid keys all are named.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut loading = Loading::default();
        if let Some(machine) = self.machine {
            loading.config.limits = Limits::default_for(machine);
            let following = KEYS.iter().filter(|key| memory::follows(key.path));
            loading.origins.extend(following.map(|key| (key.path, Origin::Memory(machine.memory_bytes))));
        }
        if let Some(path) = self.file_there() {
            for (key, value) in file_layer(path)? {
                loading.set(&key, &value, Origin::File(path.to_owned()), false);
            }
        }
        for (key, value) in self.environment_layer() {
            let origin = match key.as_str() {
                "log.filter" if !self.is_set("log.filter") => Origin::Environment(RUST_LOG.to_owned()),
                _ => Origin::Environment(format!("{PREFIX}__{}", key.replace('.', "__").to_ascii_uppercase())),
            };
            loading.set(&key, &value, origin, true);
        }
        for Flag { flag, path, value } in &self.flags {
            loading.set(path, &ValueKind::String(value.clone()), Origin::Flag(flag), true);
        }
        loading.finish()
    }

    fn environment_layer(&self) -> BTreeMap<String, ValueKind> {
        let ours = |name: &&String| name.to_ascii_uppercase().starts_with(&format!("{PREFIX}__"));
        let variables: Map<String, String> = self
            .environment
            .iter()
            .filter(|(name, _)| ours(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let source = Environment::with_prefix(PREFIX).prefix_separator("__").separator("__").source(Some(variables));
        let collected = source.collect().expect("variables that are text can be collected");
        let mut layer: BTreeMap<String, ValueKind> =
            collected.into_iter().map(|(key, value)| (key, value.kind)).collect();
        if let Some(filter) = self.environment.get(RUST_LOG).filter(|filter| !filter.is_empty()) {
            layer.entry("log.filter".to_owned()).or_insert_with(|| ValueKind::String(filter.clone()));
        }
        layer
    }

    fn is_set(&self, path: &str) -> bool {
        keys::find(path).is_some_and(|key| self.environment.contains_key(&key.variable()))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Loaded {
    /// Where a key's value was said.
    pub fn origin(&self, key: &Key) -> &Origin {
        self.origins.get(key.path).unwrap_or(&Origin::Default)
    }

    /// Keys whose values differ.
    pub fn changed(&self, other: &Self) -> Vec<&'static Key> {
        KEYS.iter().filter(|key| key.get(&self.config) != key.get(&other.config)).collect()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Memory(bytes) => write!(f, "default for {} MiB of memory", bytes / (1024 * 1024)),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(variable) => f.write_str(variable),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

#[derive(Default)]
struct Loading {
    config: Config,
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
}

impl Loading {
    fn set(&mut self, path: &str, value: &ValueKind, origin: Origin, loose: bool) {
        let Some(key) = keys::find(path) else {
            let problem = unknown(path, origin);
            return self.problems.push(problem);
        };
        match key.set(&mut self.config, value, loose) {
            Some(()) => {
                self.origins.insert(key.path, origin);
            }
            None => self.problems.push(Problem {
                origin,
                path: path.to_owned(),
                value: Some(key.show(value)),
                bound: format!("must be {}", key.bound()),
                hint: String::new(),
            }),
        }
    }

    fn finish(mut self) -> Result<Loaded, ConfigError> {
        let loaded = Loaded { config: self.config, origins: self.origins };
        // Values that cannot be go before combinations that cannot be: those may be their consequence.
        if self.problems.is_empty() {
            self.problems = combination::problems(&loaded);
        }
        if self.problems.is_empty() { Ok(loaded) } else { Err(ConfigError::Invalid { problems: self.problems }) }
    }
}

fn unknown(path: &str, origin: Origin) -> Problem {
    let hint = nearest(path).map_or_else(String::new, |key| format!("did you mean {}?", key.path));
    let is_section = KEYS.iter().any(|key| key.path.starts_with(&format!("{path}.")));
    let bound = if is_section { "is a section, not a key" } else { "unknown key" };
    Problem { origin, path: path.to_owned(), value: None, bound: bound.to_owned(), hint }
}

/// The key that somebody meant who wrote `path`.
fn nearest(path: &str) -> Option<&'static Key> {
    let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |key: &Key| {
        let whole = strsim::normalized_damerau_levenshtein(path, key.path);
        // The right name in the wrong section is nearly as good.
        let alone = strsim::normalized_damerau_levenshtein(&name(path), key.name()) * 0.9;
        whole.max(alone)
    };
    let best = KEYS.iter().map(|key| (likeness(key), key)).max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, key)| key)
}

/// Whatever else keeps it from being looked at shows when it is read.
fn is_there(path: &Path) -> bool {
    !matches!(files::metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn file_layer(path: &Path) -> Result<BTreeMap<String, ValueKind>, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let text = files::read_text(path, FILE_BYTES_MAX).map_err(failed)?;
    let tables = File::from_str(&text, FileFormat::Toml).collect().map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        reason: without_quotation(&error.to_string()),
    })?;
    let mut layer = BTreeMap::new();
    flatten("", tables, &mut layer);
    Ok(layer)
}

/// What the parser says, without the line that it shows, in which a secret may stand.
fn without_quotation(reason: &str) -> String {
    let is_shown = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    reason.lines().filter(|line| !is_shown(line) && !line.is_empty()).collect::<Vec<_>>().join(": ")
}

/// Tables within tables as keys with dots. An empty table of a known section says nothing; of an unknown one it is
/// named like a key.
fn flatten(prefix: &str, table: Map<String, Value>, layer: &mut BTreeMap<String, ValueKind>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value.kind {
            ValueKind::Table(table) if !table.is_empty() => flatten(&path, table, layer),
            ValueKind::Table(_) if KEYS.iter().any(|key| key.section() == path) => {}
            kind => {
                layer.insert(path, kind);
            }
        }
    }
}
