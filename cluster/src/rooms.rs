//! Rooms' homes, as one node sees them.

use std::collections::BTreeMap;

use super::{
    bucket::{Act, Answer, Entry, Key, Life, NodeNumber, RoomKey, Value},
    lives::{Lives, Standing},
    node::{Terms, planted},
    own_life::Place,
};

/// What a home's words are ordered by: within an epoch, a later home has a higher one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The epoch in which it became the home.
    pub epoch: u64,
    /// The number of the write that made it so.
    pub revision: u64,
}

/// Where a room has its home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Home {
    /// At this node, now. Whatever it says as the home goes with the fence.
    Here(Fence),
    /// At another one, as far as is known.
    There(NodeNumber, Fence),
    /// Not known, or nowhere: it is being asked, or taken.
    Undecided,
}

/// A room that this node wants to know the home of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Room {
    /// What stands in its record; `None` if it is to be asked, and no entry if it never had one.
    record: Option<Option<Entry>>,
    /// The highest fence that was heard of.
    highest: Option<Fence>,
    /// Nobody here is in it any more: if this node is its home, it says so and forgets it.
    leaving: bool,
    /// The record with this number may be overwritten at any time by our saying so, however late that arrives. Whoever comes
    /// back is the home only by another record.
    given_up: Option<u64>,
    /// The record makes this node the home, if the bucket says once more that the epoch is the one that it was written for.
    to_confirm: bool,
}

/// Those that this node wants to know the home of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Rooms {
    by_key: BTreeMap<RoomKey, Room>,
}

impl Room {
    /// Whether the record with this number is not to be trusted any more.
    fn is_given_up(&self, revision: u64, terms: &Terms) -> bool {
        self.given_up == Some(revision) && !planted!(terms, BackAfterGivingUp)
    }

    /// The number of the record that makes this node the home, in this life.
    fn ours(&self, life: Life, terms: &Terms) -> Option<u64> {
        let entry = self.record??;
        let ours = matches!(entry.value, Value::Home { life: there, .. } if there == life);
        let given_up = self.is_given_up(entry.revision, terms);
        let confirmed = !self.to_confirm || planted!(terms, NoSecondLook);
        (ours && !given_up && confirmed).then_some(entry.revision)
    }
}

impl Rooms {
    pub(crate) fn want(&mut self, room: RoomKey) {
        self.by_key.entry(room).or_default().leaving = false;
    }

    pub(crate) fn leave(&mut self, room: RoomKey) {
        if let Some(room) = self.by_key.get_mut(&room) {
            room.leaving = true;
        }
    }

    /// It is being said that the room's record with this number is over.
    pub(crate) fn handle_given_up(&mut self, room: RoomKey, revision: u64) {
        if let Some(room) = self.by_key.get_mut(&room) {
            (room.record, room.given_up) = (None, Some(revision));
        }
    }

    /// What was known may be wrong: another node says that it is not the home.
    pub(crate) fn doubt(&mut self, room: RoomKey) {
        if let Some(room) = self.by_key.get_mut(&room) {
            room.record = None;
        }
    }

    /// All that was read and written before is of the epoch that is known.
    pub(crate) fn handle_same_epoch(&mut self) {
        self.by_key.values_mut().for_each(|room| room.to_confirm = false);
    }

    /// Nothing that is known holds any more: it is another epoch.
    pub(crate) fn forget_all(&mut self) {
        self.by_key.values_mut().for_each(|room| *room = Room { leaving: room.leaving, ..Room::default() });
    }

    /// Whether words with this fence are heard: not after words with a higher one.
    pub(crate) fn hears(&mut self, room: RoomKey, fence: Fence) -> bool {
        let Some(room) = self.by_key.get_mut(&room) else { return false };
        let heard = room.highest.is_none_or(|highest| highest <= fence);
        if heard {
            room.highest = Some(fence);
        }
        heard
    }

    /// Where a room has its home, if `own` is the life that is held now.
    pub(crate) fn home(&self, room: RoomKey, epoch: u64, own: Option<&Place>, lives: &Lives, terms: &Terms) -> Home {
        let Some(known) = self.by_key.get(&room) else { return Home::Undecided };
        if let Some(revision) = own.and_then(|own| known.ours(own.life, terms)) {
            return Home::Here(Fence { epoch, revision });
        }
        let Some(Some(Entry { value: Value::Home { node, life }, revision, .. })) = known.record else {
            return Home::Undecided;
        };
        let here = own.is_some_and(|own| own.node == node);
        match lives.standing(node, life, revision) {
            Standing::Goes | Standing::Unclear if !here => Home::There(node, Fence { epoch, revision }),
            _ => Home::Undecided,
        }
    }

    /// How many have their home here, if `own` is the life that is held now.
    pub(crate) fn held(&self, own: Option<&Place>, terms: &Terms) -> usize {
        let Some(own) = own else { return 0 };
        self.by_key.values().filter(|room| room.ours(own.life, terms).is_some()).count()
    }

    /// What is to be asked of the bucket for all of them.
    pub(crate) fn wishes<'a>(
        &'a self,
        epoch: u64,
        own: &'a Place,
        ripe: bool,
        lives: &'a Lives,
        terms: &'a Terms,
    ) -> impl Iterator<Item = Act> + 'a {
        self.by_key.iter().filter_map(move |(room, known)| {
            let key = Key::Room { epoch, room: *room };
            let Some(record) = known.record else { return Some(Act::Read(key)) };
            let write = |value| Some(Act::Write { key, expected: record.map_or(0, |entry| entry.revision), value });
            let held = record.is_some_and(|entry| matches!(entry.value, Value::Home { life, .. } if life == own.life));
            if known.leaving {
                return held.then(|| write(Value::Empty)).flatten();
            }
            let take = || ripe.then(|| write(Value::Home { node: own.node, life: own.life })).flatten();
            match record {
                Some(Entry { revision, .. }) if held => known.is_given_up(revision, terms).then(take).flatten(),
                Some(Entry { value: Value::Home { node, life }, revision, .. }) => {
                    match lives.standing(node, life, revision) {
                        Standing::Goes => None,
                        Standing::Over => take(),
                        Standing::Unclear if planted!(terms, TakenFromUnseen) => take(),
                        Standing::Unclear => Some(Act::Read(Key::Life { epoch, node })),
                    }
                }
                _ => take(),
            }
        })
    }

    /// Takes what the bucket says of a room's record. Says whether it makes `own` the home, so that it is to be confirmed.
    pub(crate) fn handle_answer(
        &mut self,
        epoch: u64,
        room: RoomKey,
        act: Act,
        answer: Answer,
        own: Option<Life>,
    ) -> bool {
        let Some(known) = self.by_key.get_mut(&room) else { return false };
        known.record = match (act, answer) {
            (Act::Read(_), Answer::Found(found)) => Some(found),
            (Act::Write { key, value, .. }, Answer::Written(revision)) => Some(Some(Entry { key, revision, value })),
            _ => None,
        };
        if let Some(Some(Entry { value: Value::Home { .. }, revision, .. })) = known.record {
            known.highest = known.highest.max(Some(Fence { epoch, revision }));
        }
        let here = |entry: Entry| matches!(entry.value, Value::Home { life, .. } if own == Some(life));
        known.to_confirm = known.record.flatten().is_some_and(here);
        known.to_confirm
    }

    /// Forgets those that nobody is in and that are nobody's here.
    pub(crate) fn forget(&mut self, own: Option<Life>) {
        self.by_key.retain(|_, room| {
            let ours = match room.record {
                None => true,
                Some(Some(Entry { value: Value::Home { life, .. }, .. })) => own == Some(life),
                Some(_) => false,
            };
            !room.leaving || ours
        });
    }
}
