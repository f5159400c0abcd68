//! Rooms' homes, as one node sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

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
    /// Those of which something is to be asked, or may be soon. The others have a home, and nothing is to be asked of them
    /// before they are touched or something becomes of a life: a node knows tens of thousands.
    open: BTreeSet<RoomKey>,
    /// Those whose home may be another than when [`Self::poll_moved`] named them last.
    moved: BTreeSet<RoomKey>,
    /// The one that was asked about last: those after it come first, so that all have their turn.
    asked_last: Option<RoomKey>,
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

    /// Whether its home is known, and stays what it is until it is touched or something becomes of a life.
    fn is_settled(&self, lives: &Lives) -> bool {
        let Some(Some(Entry { value: Value::Home { node, life }, revision, .. })) = self.record else { return false };
        let is_sure = !self.leaving && !self.to_confirm && self.given_up != Some(revision);
        is_sure && lives.standing(node, life, revision) == Standing::Goes
    }

    /// Whether nobody is in it any more, and it is not this node that has to say so.
    fn is_over(&self, own: Option<Life>) -> bool {
        let may_be_ours = match self.record {
            None => true,
            Some(Some(Entry { value: Value::Home { life, .. }, .. })) => own == Some(life),
            Some(_) => false,
        };
        self.leaving && !may_be_ours
    }

    /// What is to be asked of the bucket for it.
    fn wish(
        &self,
        room: RoomKey,
        epoch: u64,
        (own, ripe): (&Place, bool),
        lives: &Lives,
        terms: &Terms,
    ) -> Option<Act> {
        let key = Key::Room { epoch, room };
        let Some(record) = self.record else { return Some(Act::Read(key)) };
        let write = |value| Some(Act::Write { key, expected: record.map_or(0, |entry| entry.revision), value });
        let held = record.is_some_and(|entry| matches!(entry.value, Value::Home { life, .. } if life == own.life));
        if self.leaving {
            return held.then(|| write(Value::Empty)).flatten();
        }
        let take = || ripe.then(|| write(Value::Home { node: own.node, life: own.life })).flatten();
        match record {
            Some(Entry { revision, .. }) if held => self.is_given_up(revision, terms).then(take).flatten(),
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
    }
}

impl Rooms {
    /// Whoever comes back into a room that was empty is in another one: its home has another fence, even if it is the same node.
    pub(crate) fn want(&mut self, room: RoomKey, terms: &Terms) {
        let known = self.by_key.entry(room).or_default();
        if std::mem::take(&mut known.leaving) && !planted!(terms, SameFenceAgain) {
            known.given_up = known.highest.map(|fence| fence.revision).max(known.given_up);
        }
        self.touch(room);
    }

    pub(crate) fn leave(&mut self, room: RoomKey) {
        self.change(room, |room| room.leaving = true);
    }

    /// It is being said that the room's record with this number is over.
    pub(crate) fn handle_given_up(&mut self, room: RoomKey, revision: u64) {
        self.change(room, |room| (room.record, room.given_up) = (None, Some(revision)));
    }

    /// What was known may be wrong: another node says that it is not the home.
    pub(crate) fn doubt(&mut self, room: RoomKey) {
        self.change(room, |room| room.record = None);
    }

    /// All that was read and written before is of the epoch that is known.
    pub(crate) fn handle_same_epoch(&mut self) {
        for room in &self.open {
            if let Some(known) = self.by_key.get_mut(room)
                && std::mem::take(&mut known.to_confirm)
            {
                self.moved.insert(*room);
            }
        }
    }

    /// Nothing that is known holds any more: it is another epoch.
    pub(crate) fn forget_all(&mut self) {
        self.by_key.values_mut().for_each(|room| *room = Room { leaving: room.leaving, ..Room::default() });
        self.touch_all();
    }

    /// Something has become of a life, its own one as well.
    pub(crate) fn touch_all(&mut self) {
        self.open = self.by_key.keys().copied().collect();
        self.moved.clone_from(&self.open);
    }

    /// A life was renewed: that says something of rooms of which the home's life is not known to go on, and those are open.
    pub(crate) fn handle_renewal(&mut self) {
        self.moved.extend(&self.open);
    }

    /// The next room whose home may be another than when it was named here last.
    pub(crate) fn poll_moved(&mut self) -> Option<RoomKey> {
        self.moved.pop_first()
    }

    /// A room is being asked about.
    pub(crate) const fn handle_asked(&mut self, room: RoomKey) {
        self.asked_last = Some(room);
    }

    fn touch(&mut self, room: RoomKey) {
        self.open.insert(room);
        self.moved.insert(room);
    }

    fn change(&mut self, room: RoomKey, change: impl FnOnce(&mut Room)) {
        if let Some(known) = self.by_key.get_mut(&room) {
            change(known);
            self.touch(room);
        }
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
        let after = self.asked_last.map_or(Unbounded, Excluded);
        let from = self.asked_last.map(|last| self.open.range(..=last)).into_iter().flatten();
        self.open.range((after, Unbounded)).chain(from).filter_map(move |room| {
            let known = self.by_key.get(room)?;
            known.wish(*room, epoch, (own, ripe), lives, terms)
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
        let is_ours = known.to_confirm;
        self.touch(room);
        is_ours
    }

    /// Forgets those that nobody is in and that are nobody's here, and looks no more at those of which nothing is to be asked.
    pub(crate) fn settle(&mut self, own: Option<Life>, lives: &Lives) {
        let Self { by_key, open, moved, .. } = self;
        open.retain(|room| match by_key.get(room) {
            Some(known) if known.is_over(own) => {
                by_key.remove(room);
                moved.insert(*room);
                false
            }
            Some(known) => !known.is_settled(lives),
            None => false,
        });
    }

    /// How many are wanted, and of how many the home is being asked for or taken.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.by_key.len(), self.open.len())
    }

    /// Whether something is to be asked of a room that is not looked at any more: never.
    #[cfg(test)]
    pub(crate) fn neglects(&self, epoch: u64, own: &Place, ripe: bool, lives: &Lives, terms: &Terms) -> bool {
        let closed = self.by_key.iter().filter(|(room, _)| !self.open.contains(room));
        closed.into_iter().any(|(room, known)| known.wish(*room, epoch, (own, ripe), lives, terms).is_some())
    }
}
