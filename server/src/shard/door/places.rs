//! The places of those who are not let in yet, and who gives one back when all are taken.
//!
//! A handshake in progress takes memory before anybody is known, so there are so many places and no more. Whoever comes
//! gets one, if need be that of the oldest of the network that has most: a network can only take places from itself, and
//! whoever answers at once has left before it is the oldest.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use foldhash::fast::FixedState;

use super::prefixes::Network;

/// How many clients of a provider, and of a part of it, weigh as much as this many of one household or host: a million
/// networks of one owner are not a million owners.
const WEIGHTS: [u32; 3] = [1, 4, 16];

/// A client's place. They are numbered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// One shard's places.
#[derive(Debug, Default)]
pub(crate) struct Places {
    by_age: BTreeMap<Place, Holder>,
    next: u64,
    /// How many places networks have, at each width. Those that have none are in `free`.
    counts: Vec<u32>,
    free: Vec<usize>,
    by_group: HashMap<(u8, u64), usize, FixedState>,
}

#[derive(Debug)]
struct Holder {
    link: u32,
    network: Network,
    counts: [usize; 3],
    /// It is on its way out, and only its last packets are waited for.
    is_over: bool,
}

impl Places {
    /// A client takes a place.
    pub(crate) fn take(&mut self, link: u32, network: Network) -> Place {
        let mut width = 0;
        let counts = network.groups.map(|group| {
            let at = *self.by_group.entry((width, group)).or_insert_with(|| {
                self.free.pop().unwrap_or_else(|| {
                    self.counts.push(0);
                    self.counts.len() - 1
                })
            });
            self.counts[at] += 1;
            width += 1;
            at
        });
        let place = Place(self.next);
        self.next += 1;
        self.by_age.insert(place, Holder { link, network, counts, is_over: false });
        place
    }

    /// A place is free again: its client was let in, or is gone.
    pub(crate) fn leave(&mut self, place: Place) {
        let Some(holder) = self.by_age.remove(&place) else { return };
        for (width, at) in holder.counts.into_iter().enumerate() {
            self.counts[at] -= 1;
            if self.counts[at] == 0 {
                self.by_group.remove(&(width as u8, holder.network.groups[width]));
                self.free.push(at);
            }
        }
    }

    /// A client will not be let in any more: its place is the next to go.
    pub(crate) fn end(&mut self, place: Place) {
        if let Some(holder) = self.by_age.get_mut(&place) {
            holder.is_over = true;
        }
    }

    /// Places that are taken.
    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    /// Who makes room for this one: whoever is on the way out, else the oldest of the network that has most.
    pub(crate) fn next_to_go(&self, newcomer: Place) -> Option<u32> {
        let others = self.by_age.iter().filter(|(place, _)| **place != newcomer);
        let worst = others.max_by_key(|(place, holder)| (holder.is_over, self.weights(holder), Reverse(**place)));
        worst.map(|(_, holder)| holder.link)
    }

    /// How heavy its network is: at the width at which it is heaviest, and then within.
    fn weights(&self, holder: &Holder) -> [u32; 3] {
        let [wide, middle, narrow] = holder.counts.map(|at| self.counts[at]);
        let [wide, middle, narrow] = [wide * WEIGHTS[0], middle * WEIGHTS[1], narrow * WEIGHTS[2]];
        [wide.max(middle).max(narrow), middle.max(narrow), narrow]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::door::prefixes::Prefixes;

    fn filled(addresses: &[&str]) -> (Prefixes, Places) {
        let (prefixes, mut places) = (Prefixes::default(), Places::default());
        for (link, address) in addresses.iter().enumerate() {
            places.take(link as u32, prefixes.network(address.parse().expect("an address")));
        }
        (prefixes, places)
    }

    fn who_goes_for(address: &str, (prefixes, mut places): (Prefixes, Places)) -> Option<u32> {
        let newcomer = places.take(99, prefixes.network(address.parse().expect("an address")));
        places.next_to_go(newcomer)
    }

    //
    #[test]
    fn the_oldest_of_the_network_that_has_most_makes_room() {
        let addresses = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.51.100.1"];
        assert_eq!(who_goes_for("192.0.2.9", filled(&addresses)), Some(1));
        // Whoever has most takes from itself.
        assert_eq!(who_goes_for("198.51.100.1", filled(&addresses)), Some(1));
        assert_eq!(who_goes_for("192.0.2.1", filled(&addresses[..1])), Some(0));
        assert_eq!(who_goes_for("192.0.2.1", filled(&[])), None, "nobody for oneself");
    }

    //
    #[test]
    fn many_networks_of_one_owner_are_not_many_owners() {
        let mut addresses: Vec<String> = (0..40).map(|number| format!("2001:db8:{number:x}::1")).collect();
        addresses.extend(["192.0.2.1".to_owned(), "192.0.2.1".to_owned()]);
        let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
        assert_eq!(who_goes_for("203.0.113.1", filled(&names)), Some(0), "40 of a /32 weigh more than two of a host");
        assert_eq!(who_goes_for("203.0.113.1", filled(&names[20..])), Some(20), "20 do not");
        // Within a provider, it is the neighbourhood that has most.
        let mut addresses = vec!["2001:db8:1::1".to_owned()];
        addresses.extend((0..6).map(|number| format!("2001:db8:2:{number}00::1")));
        addresses.push("2001:db8:3::1".to_owned());
        let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
        assert_eq!(who_goes_for("203.0.113.1", filled(&names)), Some(1));
    }

    #[test]
    fn whoever_is_on_the_way_out_goes_first_and_nothing_is_left_of_who_has_left() {
        let (prefixes, mut places) = (Prefixes::default(), Places::default());
        let network = |address: &str| prefixes.network(address.parse().expect("an address"));
        let first = places.take(1, network("192.0.2.1"));
        let second = places.take(2, network("192.0.2.1"));
        let third = places.take(3, network("2001:db8::1"));
        places.end(third);
        let newcomer = places.take(4, network("198.51.100.1"));
        assert_eq!(places.next_to_go(newcomer), Some(3));
        for place in [first, second, third, newcomer] {
            places.leave(place);
            places.leave(place);
        }
        assert_eq!((places.len(), places.by_group.len(), places.free.len()), (0, 0, places.counts.len()));
    }
}
