//! Classes of limits: what a token may grant its holders instead of what everybody gets.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc};

use crate::control::config::{
    Config,
    key::{Key, Kind},
    keys,
};
use crate::core::limits::Limits;

/// Classes that there may be.
pub const CLASSES_MAX: usize = 16;
/// The longest name of a class: it stands in tokens.
const NAME_BYTES_MAX: usize = 32;

/// The limits of one session, without the sections' name. Those of the relay and of rooms are nobody's own.
const OF_A_SESSION: &[&str] = &[
    "rooms_max",
    "tracks_max",
    "subscriptions_max",
    "watches_max",
    "rings_per_minute_max",
    "requests_per_second_max",
    "ingest_objects_per_second_max",
    "ingest_bytes_per_second_max",
    "egress_bytes_per_second_max",
    "egress_bytes_per_day_max",
    "mls_bytes_per_second_max",
    "catch_ups_per_minute_max",
    "beacons_per_minute_max",
    "key_packages_taken_per_minute_max",
];

/// A class, as the configuration says it: `guest rooms_max=1 tracks_max=2`. What it does not name is as for everybody.
#[derive(Clone)]
pub struct Class {
    name: String,
    changes: Vec<(&'static Key, u64)>,
}

impl Class {
    /// Its name in tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self, config: &Config) -> Limits {
        let mut config = config.clone();
        for (key, value) in &self.changes {
            if let Kind::Integer { set, .. } = key.kind {
                set(&mut config, *value);
            }
        }
        config.limits
    }
}

impl FromStr for Class {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_ascii_whitespace();
        let name = words.next().ok_or(())?;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
            return Err(());
        }
        let mut changes: Vec<(&'static Key, u64)> = Vec::new();
        for word in words {
            let (limit, value) = word.split_once('=').ok_or(())?;
            let key = Some(limit).filter(|limit| OF_A_SESSION.contains(limit));
            let key = key.and_then(|limit| keys::find(&format!("limits.{limit}"))).ok_or(())?;
            let Kind::Integer { min, max, .. } = key.kind else { return Err(()) };
            let value = value.parse().ok().filter(|value| (min..=max).contains(value)).ok_or(())?;
            if changes.iter().any(|(known, _)| known.path == key.path) {
                return Err(());
            }
            changes.push((key, value));
        }
        Ok(Self { name: name.to_owned(), changes })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.changes.iter().try_for_each(|(key, value)| write!(f, " {}={value}", key.name()))
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What each class grants.
#[derive(Debug, Clone, Default)]
pub struct Classes(HashMap<String, Arc<Limits>>);

impl Classes {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let classes = config.admission.classes.iter();
        Self(classes.map(|class| (class.name.clone(), Arc::new(class.limits(config)))).collect())
    }

    pub(crate) fn limits(&self, name: &str) -> Option<Arc<Limits>> {
        self.0.get(name).cloned()
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.keys().cloned().collect();
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn a_class_changes_the_limits_of_a_session_within_their_bounds_and_nothing_else() {
        let class: Class = "guest rooms_max=1 ingest_bytes_per_second_max=250000".parse().expect("a class");
        assert_eq!(class.to_string(), "guest rooms_max=1 ingest_bytes_per_second_max=250000");
        let mut config = Config::default();
        config.limits.tracks_max = 5;
        config.admission.classes = vec![class, "host".parse().expect("one that changes nothing")];
        let classes = Classes::of(&config);
        assert_eq!(classes.names(), ["guest", "host"]);
        let limits = classes.limits("guest").expect("there");
        assert_eq!((limits.rooms_max, limits.ingest_bytes_per_second_max, limits.tracks_max), (1, 250_000, 5));
        assert_eq!(classes.limits("host").expect("there").rooms_max, config.limits.rooms_max);
        assert!(classes.limits("other").is_none());
        for wrong in [
            "",
            "Guest",
            "a,b",
            "guest rooms_max",
            "guest rooms_max=0",
            "guest rooms_max=1001",
            "guest sessions_max=1",
            "guest nonsense=1",
            "guest rooms_max=1 rooms_max=2",
            "guest rooms_max=-1",
        ] {
            assert!(wrong.parse::<Class>().is_err(), "{wrong:?}");
        }
        assert!("x".repeat(NAME_BYTES_MAX + 1).parse::<Class>().is_err());
    }

    #[test]
    fn every_limit_that_a_class_may_change_can_be_set() {
        for limit in OF_A_SESSION {
            assert!(keys::find(&format!("limits.{limit}")).is_some(), "{limit}");
        }
    }
}
