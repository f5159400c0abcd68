//! The lives of all nodes, as one of them sees them.

use std::collections::BTreeMap;

use super::bucket::{Life, Moment, NodeNumber, Value, Whereabouts};

/// A node's record, as it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    /// The write's number.
    pub(crate) revision: u64,
    /// Who lives there.
    pub(crate) life: Life,
    /// Where; `None` once that is over.
    pub(crate) at: Option<Whereabouts>,
    /// When it was first seen so.
    pub(crate) since: Moment,
}

impl Seen {
    /// Whether its end is on record.
    pub(crate) const fn is_over(&self) -> bool {
        self.at.is_none()
    }

    /// Whether it says no more than that what an earlier record said goes on.
    pub(crate) fn goes_on_from(&self, earlier: &Self) -> bool {
        (self.life, self.is_over()) == (earlier.life, earlier.is_over())
    }
}

/// What can be said of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not over, the last time that was looked.
    Goes,
    /// Its end is on record.
    Over,
    /// What was seen is older than what is asked about.
    Unclear,
}

/// Records of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Lives {
    by_node: BTreeMap<NodeNumber, Seen>,
}

impl Lives {
    /// Takes a record, unless a newer one was seen. Says whether it is news.
    pub(crate) fn handle(&mut self, node: NodeNumber, revision: u64, value: Value, now: Moment) -> bool {
        let (life, at) = match value {
            Value::Alive(life, at) => (life, Some(at)),
            Value::Ended(life) => (life, None),
            _ => return false,
        };
        let news = self.by_node.get(&node).is_none_or(|seen| seen.revision < revision);
        if news {
            self.by_node.insert(node, Seen { revision, life, at, since: now });
        }
        news
    }

    /// Forgets all: it is another epoch.
    pub(crate) fn clear(&mut self) {
        self.by_node.clear();
    }

    /// A node's record.
    pub(crate) fn of(&self, node: NodeNumber) -> Option<Seen> {
        self.by_node.get(&node).copied()
    }

    /// All records.
    pub(crate) fn all(&self) -> impl Iterator<Item = (NodeNumber, Seen)> {
        self.by_node.iter().map(|(node, seen)| (*node, *seen))
    }

    /// What is known of a life that a write with this number names. All writes are numbered together: a node's record that is
    /// newer than the write and does not name the life any more says that it is over, and one that is older says nothing.
    pub(crate) fn standing(&self, node: NodeNumber, life: Life, named_in: u64) -> Standing {
        match self.of(node) {
            Some(seen) if seen.life == life => {
                if seen.is_over() {
                    Standing::Over
                } else {
                    Standing::Goes
                }
            }
            Some(seen) if seen.revision > named_in => Standing::Over,
            _ => Standing::Unclear,
        }
    }
}
