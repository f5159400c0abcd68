//! A bucket.

use std::collections::BTreeMap;

use crate::{Act, Answer, Entry, Key, Value};

/// The bucket's content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Bucket {
    entries: BTreeMap<Key, (u64, Value)>,
    writes: u64,
}

impl Bucket {
    /// Does what is asked, as a bucket does.
    pub(crate) fn serve(&mut self, act: Act) -> Answer {
        let last = self.entries.get(&act.key()).copied();
        match act {
            Act::Read(key) => Answer::Found(last.map(|(revision, value)| Entry { key, revision, value })),
            Act::Write { expected, .. } if expected != last.map_or(0, |(revision, _)| revision) => Answer::Conflict,
            Act::Write { key, value, .. } => {
                self.writes += 1;
                self.entries.insert(key, (self.writes, value));
                Answer::Written(self.writes)
            }
        }
    }

    /// What a watch of an epoch shows next, after what it showed.
    pub(crate) fn after(&self, epoch: u64, revision: u64) -> Option<Entry> {
        let of_it = |key: &Key| matches!(key, Key::Ripe { epoch: e } | Key::Life { epoch: e, .. } if *e == epoch);
        let newer = self.entries.iter().filter(|(key, (at, _))| of_it(key) && *at > revision);
        newer.min_by_key(|(_, (at, _))| *at).map(|(key, (revision, value))| Entry {
            key: *key,
            revision: *revision,
            value: *value,
        })
    }
}
