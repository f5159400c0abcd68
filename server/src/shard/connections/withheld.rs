//! Messages of mailboxes that a client has no room for: they stay in their rooms' histories until it has read what waits.
//!
//! Everybody in a room may send at once, each as much as they are granted. Whoever reads slower than that misses messages
//! for a while, and is not closed for what others did.

use std::collections::BTreeMap;

use supernode_proto::identity::RoomId;

/// The rooms of which a client misses messages: at most those that it is in.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    by_room: BTreeMap<RoomId, Missing>,
}

#[derive(Debug)]
struct Missing {
    /// The last message that it was sent.
    after: u64,
    /// Whether the room's home has been asked for the rest.
    asked: bool,
}

impl Withheld {
    /// Whether messages of this room are missing: then those that follow must wait as well.
    pub(crate) fn misses(&self, room: &RoomId) -> bool {
        self.by_room.contains_key(room)
    }

    /// The message with this number is the first that is missing, or one that follows.
    pub(crate) fn withhold(&mut self, room: RoomId, sequence: u64) {
        self.by_room.entry(room).or_insert(Missing { after: sequence.saturating_sub(1), asked: false });
    }

    /// What was missing of a room comes now.
    pub(crate) fn forget(&mut self, room: &RoomId) {
        self.by_room.remove(room);
    }

    /// The rooms whose homes are to be asked for the rest, and the last message of each that the client was sent; once.
    pub(crate) fn take_unasked(&mut self) -> impl Iterator<Item = (RoomId, u64)> {
        self.by_room.iter_mut().filter_map(|(room, missing)| {
            let is_first = !std::mem::replace(&mut missing.asked, true);
            is_first.then_some((*room, missing.after))
        })
    }
}
