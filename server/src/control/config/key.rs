//! What a key is: its place, its values, and what they cost.

use std::fmt;

use config::ValueKind;

use super::values::Config;

/// One row of the table of keys.
pub struct Key {
    /// Where it stands, such as `limits.rooms_max`.
    pub path: &'static str,
    /// Its values.
    pub kind: Kind,
    /// What it is.
    pub what: &'static str,
    /// What happens while it is not set; empty for a key that always has a value.
    pub unset: &'static str,
    /// What a higher or other value costs.
    pub cost: &'static str,
    /// When a change takes effect.
    pub reload: Reload,
}

/// When a change of a key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// On SIGHUP, or when the file changes.
    Live,
    /// At the next start.
    Restart,
}

/// The values of a key, and its place in [`Config`].
pub enum Kind {
    /// A whole number.
    Integer {
        /// What one of it is.
        unit: &'static str,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
        /// Reads it.
        get: fn(&Config) -> u64,
        /// Sets it.
        set: fn(&mut Config, u64),
    },
    /// One of some words.
    Choice {
        /// The words.
        words: &'static [&'static str],
        /// Reads which.
        get: fn(&Config) -> usize,
        /// Sets which.
        set: fn(&mut Config, usize),
    },
    /// Text of some form.
    Text {
        /// The form, for a sentence that begins with "must be".
        form: &'static str,
        /// Reads it.
        get: fn(&Config) -> Option<String>,
        /// Sets it, if it has the form.
        set: fn(&mut Config, &str) -> Option<()>,
    },
    /// An address, of which nobody is shown what may be secret: user, password and query.
    Address {
        /// The form, for a sentence that begins with "must be".
        form: &'static str,
        /// Reads it.
        get: fn(&Config) -> Option<String>,
        /// Sets it, if it has the form.
        set: fn(&mut Config, &str) -> Option<()>,
    },
    /// Text that nobody is shown.
    Secret {
        /// Whether it is set.
        get: fn(&Config) -> Option<String>,
        /// Sets it.
        set: fn(&mut Config, &str),
    },
    /// Several texts of one form.
    List {
        /// The form of each.
        form: &'static str,
        /// How many there may be.
        max: usize,
        /// Reads them.
        get: fn(&Config) -> Vec<String>,
        /// Sets them, if they have the form.
        set: fn(&mut Config, Vec<String>) -> Option<()>,
    },
}

/// A value as it is written.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// A whole number.
    Integer(u64),
    /// Text.
    Text(String),
    /// An address, of which not everything is shown.
    Address(String),
    /// Text that nobody is shown.
    Secret(String),
    /// Several texts.
    List(Vec<String>),
}

/// Shows what is not to be shown.
const MASK: &str = "********";

impl Key {
    /// The section that it stands in.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name within its section.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("SUPERNODE__{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// What it may be, for a sentence that begins with "must be".
    pub fn bound(&self) -> String {
        match &self.kind {
            Kind::Integer { unit, min, max, .. } => format!("a whole number from {min} to {max} ({unit})"),
            Kind::Choice { words, .. } => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("one of {}", words.join(", "))
            }
            Kind::Text { form, .. } | Kind::Address { form, .. } => (*form).to_owned(),
            Kind::Secret { .. } => "1 to 4096 printable ASCII characters".to_owned(),
            Kind::List { form, max, .. } => format!("a list of at most {max}, each {form}"),
        }
    }

    /// What it is set to, if anything.
    pub fn get(&self, config: &Config) -> Option<Setting> {
        match &self.kind {
            Kind::Integer { get, .. } => Some(Setting::Integer(get(config))),
            Kind::Choice { words, get, .. } => Some(Setting::Text(words[get(config)].to_owned())),
            Kind::Text { get, .. } => get(config).map(Setting::Text),
            Kind::Address { get, .. } => get(config).map(Setting::Address),
            Kind::Secret { get, .. } => get(config).map(Setting::Secret),
            Kind::List { get, .. } => Some(get(config)).filter(|list| !list.is_empty()).map(Setting::List),
        }
    }

    /// Sets it to a value, if it may be that: the caller names [`Self::bound`] if not. Text that came from where there
    /// is only text, such as the environment, is read as what the key wants: `loose` says so.
    pub(super) fn set(&self, config: &mut Config, value: &ValueKind, loose: bool) -> Option<()> {
        match &self.kind {
            Kind::Integer { min, max, set, .. } => {
                let number = integer(value, loose)?;
                (*min..=*max).contains(&number).then(|| set(config, number))
            }
            Kind::Choice { words, set, .. } => {
                let word = text(value)?;
                let which = words.iter().position(|known| *known == word)?;
                set(config, which);
                Some(())
            }
            Kind::Text { set, .. } | Kind::Address { set, .. } => set(config, text(value)?),
            Kind::Secret { set, .. } => {
                let secret = text(value)?;
                let fits =
                    (1..=4096).contains(&secret.len()) && secret.bytes().all(|byte| (0x20..0x7f).contains(&byte));
                fits.then(|| set(config, secret))
            }
            Kind::List { max, set, .. } => {
                let list = list(value, loose)?;
                if list.len() > *max {
                    return None;
                }
                set(config, list)
            }
        }
    }

    /// A value as somebody wrote it, for a message: nothing of a secret.
    pub(super) fn show(&self, value: &ValueKind) -> String {
        match (&self.kind, value) {
            (Kind::Secret { .. }, _) => MASK.to_owned(),
            (Kind::Address { .. }, ValueKind::String(address)) => format!("{:?}", masked(address)),
            _ => shown(value),
        }
    }
}

/// An address without user, password, query and fragment. It need not be a valid one: rather too much is masked.
fn masked(address: &str) -> String {
    let (head, query) = match address.find(['?', '#']) {
        Some(at) => (&address[..at], format!("{}{MASK}", &address[at..=at])),
        None => (address, String::new()),
    };
    let (scheme, rest) = head.split_at(head.find("://").map_or(0, |at| at + 3));
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{MASK}@{host}{query}"),
        None => format!("{scheme}{rest}{query}"),
    }
}

/// A value as TOML writes it.
fn shown(value: &ValueKind) -> String {
    match value {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(value) => value.to_string(),
        ValueKind::I64(value) => value.to_string(),
        ValueKind::I128(value) => value.to_string(),
        ValueKind::U64(value) => value.to_string(),
        ValueKind::U128(value) => value.to_string(),
        ValueKind::Float(value) => value.to_string(),
        ValueKind::String(value) => format!("{value:?}"),
        ValueKind::Table(_) => "{..}".to_owned(),
        ValueKind::Array(values) => {
            let values: Vec<String> = values.iter().map(|value| shown(&value.kind)).collect();
            format!("[{}]", values.join(", "))
        }
    }
}

impl fmt::Display for Setting {
    /// As TOML writes it, secrets masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Address(value) => write!(f, "{:?}", masked(value)),
            Self::Secret(_) => write!(f, "{MASK:?}"),
            Self::List(values) => {
                let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
                write!(f, "[{}]", values.join(", "))
            }
        }
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Setting {
    /// As JSON, secrets masked.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Integer(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Address(value) => masked(value).into(),
            Self::Secret(_) => MASK.into(),
            Self::List(values) => values.clone().into(),
        }
    }
}

fn integer(value: &ValueKind, loose: bool) -> Option<u64> {
    match value {
        ValueKind::I64(value) => u64::try_from(*value).ok(),
        ValueKind::I128(value) => u64::try_from(*value).ok(),
        ValueKind::U64(value) => Some(*value),
        ValueKind::U128(value) => u64::try_from(*value).ok(),
        ValueKind::String(digits) if loose => digits.trim().parse().ok(),
        _ => None,
    }
}

fn text(value: &ValueKind) -> Option<&str> {
    match value {
        ValueKind::String(text) => Some(text),
        _ => None,
    }
}

fn list(value: &ValueKind, loose: bool) -> Option<Vec<String>> {
    match value {
        ValueKind::Array(values) => values.iter().map(|value| text(&value.kind).map(str::to_owned)).collect(),
        ValueKind::String(values) if loose => {
            Some(values.split(',').map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_where_it_leads_is_shown() {
        for (address, shown) in [
            ("https://a.example/admit", "https://a.example/admit"),
            ("https://a.example:8443/admit?token=hunter2", "https://a.example:8443/admit?********"),
            ("https://a.example/#hunter2", "https://a.example/#********"),
            ("https://me:hunter2@a.example/", "https://********@a.example/"),
            ("https://me:hunt/er2@a.example/", "https://********@a.example/"),
            ("https://me:hunt?er2@a.example/", "https://me:hunt?********"),
            ("me:hunter2@a.example", "********@a.example"),
            ("", ""),
        ] {
            assert_eq!(masked(address), shown);
        }
    }
}
