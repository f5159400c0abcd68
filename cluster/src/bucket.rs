//! What is asked of the bucket, and what stands in it.

use core::net::SocketAddr;
use std::time::Duration;

/// The time by a clock that never goes back, since some moment of its own.
pub type Moment = Duration;

/// A node's number among those of its cluster, which its operator gave it: a place in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(pub u16);

/// One life of a node, by a number that no other life has: a process that starts again lives anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(pub u64);

/// What the others must know of a node to speak to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Whereabouts {
    /// Where it is reached, by UDP.
    pub address: SocketAddr,
    /// The SHA-256 of its public key, by which it is known there.
    pub pin: [u8; 32],
}

/// A room, by a keyed hash of its name: whoever runs the bucket learns no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomKey(pub [u8; 16]);

/// What a value stands under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Which epoch it is.
    Epoch,
    /// The epoch is old enough for homes: no life of an older one is held any more.
    Ripe {
        /// Which.
        epoch: u64,
    },
    /// The life of the node with this number.
    Life {
        /// In which epoch.
        epoch: u64,
        /// Of which node.
        node: NodeNumber,
    },
    /// A room's home.
    Room {
        /// In which epoch.
        epoch: u64,
        /// Of which room.
        room: RoomKey,
    },
}

/// What stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Value {
    /// Under [`Key::Epoch`].
    Epoch(u64),
    /// Under [`Key::Ripe`].
    Ripe,
    /// Under [`Key::Life`]: this life goes on, there.
    Alive(Life, Whereabouts),
    /// Under [`Key::Life`]: this one is over.
    Ended(Life),
    /// Under [`Key::Room`].
    Home {
        /// At which node.
        node: NodeNumber,
        /// In which of its lives.
        life: Life,
    },
    /// Under [`Key::Room`]: nobody is in it.
    Empty,
}

/// A key's newest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Where it stands.
    pub key: Key,
    /// The number of the write that put it there, which counts the bucket's writes, from 1.
    pub revision: u64,
    /// What was written.
    pub value: Value,
}

/// What the bucket is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Request {
    /// To be handed back with the answer.
    pub number: u64,
    /// What is to be done.
    pub act: Act,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// Say what stands there now. It must be the newest that was written when the bucket is asked: a replica that is behind
    /// may not answer.
    Read(Key),
    /// Put a value there, if the key's last write has this number; 0 is for a key that was never written.
    Write {
        /// Where.
        key: Key,
        /// The last write's number.
        expected: u64,
        /// What.
        value: Value,
    },
}

impl Act {
    /// Of which key it is.
    pub const fn key(&self) -> Key {
        match *self {
            Self::Read(key) | Self::Write { key, .. } => key,
        }
    }
}

/// What the bucket answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// To a read; `None` if nothing was ever written there.
    Found(Option<Entry>),
    /// To a write that was taken: its number.
    Written(u64),
    /// To a write that was not, since another came before it.
    Conflict,
    /// It is not known what became of it. Whoever never hears of an answer need not say so: a node waits
    /// [`Terms::patience`](super::Terms::patience) for one.
    Unknown,
}
