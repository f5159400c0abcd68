//! A table that all shards share, and the order in which its entries may be locked.
//!
//! An entry that is held locks a part of its table. Who holds one may take one of a table that comes later in [`Rank`], and
//! none of the same table or of an earlier one: so nothing can wait in a circle. Debug builds check it with each entry.

use std::{
    hash::Hash,
    ops::{Deref, DerefMut},
};

use dashmap::{
    DashMap, Entry,
    mapref::one::{Ref, RefMut},
};

/// The tables in the order in which their entries may be held together. Only a room, or a visit to one, and its tracks ever are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Rooms,
    Visits,
    Tracks,
    Rings,
    People,
}

/// One table. Keys that clients choose are hashed with std's keyed hash, so that nobody can aim at one bucket.
#[derive(Debug)]
pub(crate) struct Table<K: Eq + Hash, V> {
    map: DashMap<K, V>,
    rank: Rank,
}

/// An entry that is held.
pub(crate) struct Held<G> {
    // Dropped before the turn is over.
    guard: G,
    _turn: Turn,
}

/// What a thread holds, as long as it does.
#[derive(Debug)]
struct Turn {
    #[cfg(debug_assertions)]
    before: Option<Rank>,
}

#[cfg(debug_assertions)]
thread_local! {
    /// The latest of the tables of which this thread holds an entry.
    static HOLDS: std::cell::Cell<Option<Rank>> = const { std::cell::Cell::new(None) };
}

impl Turn {
    #[cfg(debug_assertions)]
    fn take(rank: Rank) -> Self {
        let before = HOLDS.get();
        assert!(
            before.is_none_or(|before| before < rank),
            "an entry of {rank:?} is taken while one of {before:?} is held"
        );
        HOLDS.set(Some(rank));
        Self { before }
    }

    #[cfg(not(debug_assertions))]
    fn take(_: Rank) -> Self {
        Self {}
    }
}

#[cfg(debug_assertions)]
impl Drop for Turn {
    fn drop(&mut self) {
        HOLDS.set(self.before);
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

impl<K: Eq + Hash, V> Table<K, V> {
    /// An empty one.
    pub(crate) fn new(rank: Rank) -> Self {
        Self { map: DashMap::new(), rank }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Holds an entry, to read it.
    pub(crate) fn get(&self, key: &K) -> Option<Held<Ref<'_, K, V>>> {
        let turn = Turn::take(self.rank);
        self.map.get(key).map(|guard| Held { guard, _turn: turn })
    }

    /// Holds an entry.
    pub(crate) fn get_mut(&self, key: &K) -> Option<Held<RefMut<'_, K, V>>> {
        let turn = Turn::take(self.rank);
        self.map.get_mut(key).map(|guard| Held { guard, _turn: turn })
    }

    /// Holds an entry, which is made if there is none.
    pub(crate) fn get_or_make<E>(
        &self,
        key: K,
        make: impl FnOnce() -> Result<V, E>,
    ) -> Result<Held<RefMut<'_, K, V>>, E> {
        let turn = Turn::take(self.rank);
        let guard = match self.map.entry(key) {
            Entry::Occupied(entry) => entry.into_ref(),
            Entry::Vacant(entry) => entry.insert(make()?),
        };
        Ok(Held { guard, _turn: turn })
    }

    /// Holds an entry, which is empty if there was none.
    pub(crate) fn get_or_default(&self, key: K) -> Held<RefMut<'_, K, V>>
    where
        V: Default,
    {
        let turn = Turn::take(self.rank);
        Held { guard: self.map.entry(key).or_default(), _turn: turn }
    }

    /// Adds an entry, unless there is one with this key; whether it did.
    pub(crate) fn insert_new(&self, key: K, value: V) -> bool {
        let _turn = Turn::take(self.rank);
        match self.map.entry(key) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(value);
                true
            }
        }
    }

    /// Adds an entry, or replaces it.
    pub(crate) fn insert(&self, key: K, value: V) {
        let _turn = Turn::take(self.rank);
        self.map.insert(key, value);
    }

    /// Changes an entry, if there is one, and removes it if it is of no more use then, in one step.
    pub(crate) fn change<R>(&self, key: K, change: impl FnOnce(&mut V) -> (Then, R)) -> Option<R> {
        let _turn = Turn::take(self.rank);
        let Entry::Occupied(mut entry) = self.map.entry(key) else { return None };
        let (then, result) = change(entry.get_mut());
        if then == Then::Remove {
            entry.remove();
        }
        Some(result)
    }

    /// Removes an entry.
    pub(crate) fn remove(&self, key: &K) -> Option<V> {
        self.remove_if(key, |_| true)
    }

    /// Removes an entry of which this is true.
    pub(crate) fn remove_if(&self, key: &K, is_over: impl FnOnce(&V) -> bool) -> Option<V> {
        let _turn = Turn::take(self.rank);
        self.map.remove_if(key, |_, value| is_over(value)).map(|(_, value)| value)
    }

    /// Whether there is an entry.
    pub(crate) fn contains_key(&self, key: &K) -> bool {
        let _turn = Turn::take(self.rank);
        self.map.contains_key(key)
    }
}

/// What becomes of an entry that was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Remove,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> (Table<u8, u8>, Table<u8, u8>) {
        let (rooms, tracks) = (Table::new(Rank::Rooms), Table::new(Rank::Tracks));
        assert!(rooms.insert_new(1, 1) && tracks.insert_new(1, 1));
        (rooms, tracks)
    }

    #[test]
    fn a_room_is_held_before_its_track_and_each_again_afterwards() {
        let (rooms, tracks) = tables();
        for _ in 0..2 {
            let room = rooms.get(&1).expect("there");
            let mut track = tracks.get_mut(&1).expect("there");
            *track += *room;
        }
        assert_eq!(tracks.remove(&1), Some(3));
        assert!(rooms.get(&2).is_none() && rooms.get(&1).is_some(), "who found nothing holds nothing");
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "an entry of Rooms is taken while one of Some(Tracks) is held")]
    fn whoever_holds_a_track_takes_no_room() {
        let (rooms, tracks) = tables();
        let _track = tracks.get(&1);
        let _room = rooms.get(&1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "an entry of Rooms is taken while one of Some(Rooms) is held")]
    fn whoever_holds_a_room_takes_no_other() {
        let (rooms, _) = tables();
        let _room = rooms.get(&1);
        rooms.change(2, |_| (Then::Keep, ()));
    }
}
