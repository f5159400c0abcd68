//! What keeps a node out of its cluster, in words.

use std::{mem::discriminant, net::SocketAddr};

/// What keeps it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// No NATS server is there for it; with what was heard last.
    NoNats(String),
    /// Another node lives under its number, there.
    NumberTaken {
        /// The number.
        number: u16,
        /// Where the other one is.
        by: SocketAddr,
    },
    /// NATS keeps nothing for it; with what it said.
    NoBucket(String),
}

impl Trouble {
    /// What is the matter.
    pub fn what(&self) -> String {
        match self {
            Self::NoNats(why) => format!("NATS is not there: {why}"),
            Self::NumberTaken { number, by } => {
                format!("another relay, at {by}, is node {number} already: one of the two stays outside of the cluster")
            }
            Self::NoBucket(why) => format!("NATS is there, and of no use: {why}"),
        }
    }

    /// What to do about it.
    pub const fn todo(&self) -> &'static str {
        match self {
            Self::NoNats(_) => {
                "see whether its servers run and can be reached from here (supernode check-config tries them); this relay \
                 serves its own clients meanwhile, and joins by itself"
            }
            Self::NumberTaken { .. } => {
                "give each relay a number of its own (cluster.node) and start it again; this one serves its own clients"
            }
            Self::NoBucket(_) => {
                "switch JetStream on and let this user use it; compare cluster.name and cluster.secret_file on all nodes \
                 (supernode check-config tries them)"
            }
        }
    }

    /// Whether it is of the same kind: what changes within one is not worth another line in the log.
    pub fn is_like(&self, other: &Self) -> bool {
        discriminant(self) == discriminant(other)
    }
}
