//! Where to look for a relay that is at several addresses: in which order, and when the next one has its turn (RFC 8305).

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use crate::Moment;

/// How long an address has for itself before the next one is tried beside it (RFC 8305 section 5).
pub const NEXT_AFTER: Duration = Duration::from_millis(250);
/// How long an address that sent us away, or that others were faster than, is tried after all others. A relay that is full or
/// drains is so for about that long; and where all are, this is an order and no bar.
pub const AVOIDED_FOR: Duration = Duration::from_secs(60);
/// Addresses that are tried in one attempt: each of an invite's in both families. Of a name with many, the first ones.
const TRIED_MAX: usize = 16;

/// What is remembered of addresses from one connection to the next, in this process only.
#[derive(Debug)]
pub struct Memory<A> {
    good: Option<A>,
    /// The longest avoided first.
    avoided: VecDeque<(A, Moment)>,
}

impl<A> Default for Memory<A> {
    fn default() -> Self {
        Self { good: None, avoided: VecDeque::new() }
    }
}

impl<A: Clone + Eq + Hash> Memory<A> {
    /// The relay at this address has let us in: it is tried first from now on.
    pub fn let_in(&mut self, at: &A) {
        self.avoided.retain(|(other, _)| other != at);
        self.good = Some(at.clone());
    }

    /// The relay at this address sends us away, or did not answer while another one did.
    pub fn avoid(&mut self, at: &A, now: Moment) {
        self.avoided.retain(|(other, _)| other != at);
        // What leads elsewhere tomorrow is not kept for it.
        if self.avoided.len() == TRIED_MAX {
            self.avoided.pop_front();
        }
        self.avoided.push_back((at.clone(), now));
    }

    /// In which order to try addresses: those of each host as its name gave them, the hosts as the invite names them. The one
    /// that let us in last goes first, then each host has its turn, in the families' turn (RFC 8305 section 4); those that are
    /// avoided come last, the longest avoided first.
    pub fn order(&self, hosts: &[Vec<A>], is_ipv6: impl Fn(&A) -> bool, now: Moment) -> Vec<A> {
        let avoided = |at: &A| {
            let mut known = self.avoided.iter();
            known.find(|(other, since)| other == at && now.since(*since) < AVOIDED_FOR).map(|(_, since)| *since)
        };
        let mut seen = HashSet::new();
        let mut left: Vec<(usize, &A)> = Vec::new();
        for (host, addresses) in hosts.iter().enumerate() {
            left.extend(addresses.iter().filter(|at| seen.insert(*at)).take(TRIED_MAX).map(|at| (host, at)));
        }
        let mut turns = vec![0; hosts.len()];
        let mut six_is_next = left.first().is_some_and(|&(_, first)| is_ipv6(first));
        let mut order = Vec::with_capacity(left.len().min(TRIED_MAX));
        let good = left.iter().position(|&(_, at)| self.good.as_ref() == Some(at) && avoided(at).is_none());
        let mut next = good;
        while order.len() < TRIED_MAX {
            let rank = |place: &usize| {
                let (host, at) = left[*place];
                (avoided(at), turns[host], is_ipv6(at) != six_is_next)
            };
            let Some(place) = next.take().or_else(|| (0..left.len()).min_by_key(rank)) else { break };
            let (host, at) = left.remove(place);
            turns[host] += 1;
            six_is_next = !is_ipv6(at);
            order.push(at.clone());
        }
        order
    }
}

/// When each of several steps has its turn: a moment after the one before, or at once when one has failed.
#[derive(Debug)]
pub struct Race<S> {
    waiting: VecDeque<S>,
    next_at: Moment,
}

impl<S> Race<S> {
    /// In this order, the first now.
    pub fn new(steps: impl IntoIterator<Item = S>, now: Moment) -> Self {
        Self { waiting: steps.into_iter().collect(), next_at: now }
    }

    /// The next step, if it is its turn.
    pub fn due(&mut self, now: Moment) -> Option<S> {
        if now < self.next_at {
            return None;
        }
        let step = self.waiting.pop_front()?;
        self.next_at = now + NEXT_AFTER;
        Some(step)
    }

    /// One that had its turn has come to nothing.
    pub fn failed(&mut self, now: Moment) {
        self.next_at = now;
    }

    /// When the next one has its turn, if there is one.
    pub fn next_at(&self) -> Option<Moment> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::at(Duration::from_secs(3_600));

    type Name = &'static str;

    /// Those of IPv6 have a colon.
    fn is_ipv6(name: &Name) -> bool {
        name.contains(':')
    }

    fn order(memory: &Memory<Name>, hosts: &[&[Name]], now: Moment) -> Vec<Name> {
        let hosts: Vec<Vec<Name>> = hosts.iter().map(|addresses| addresses.to_vec()).collect();
        memory.order(&hosts, is_ipv6, now)
    }

    const THREE: [&[Name]; 3] = [&["a:", "a"], &["b:", "b"], &["c:", "c"]];

    //
    #[test]
    fn hosts_and_families_take_turns_after_whichever_let_us_in_last() {
        let mut memory = Memory::default();
        assert_eq!(order(&memory, &THREE, NOW), ["a:", "b", "c:", "a", "b:", "c"]);
        assert_eq!(order(&memory, &[&["a"], &["b"], &["c"]], NOW), ["a", "b", "c"], "as the invite names them");
        assert_eq!(order(&memory, &[&["x:", "y:", "x", "y"]], NOW), ["x:", "x", "y:", "y"], "one name");
        memory.let_in(&"b");
        assert_eq!(order(&memory, &THREE, NOW), ["b", "a:", "c", "b:", "a", "c:"]);
        assert_eq!(order(&memory, &[&["x", "y"]], NOW), ["x", "y"], "it has moved");
        assert_eq!(order(&memory, &[&["a", "a"], &["a", "b"]], NOW), ["b", "a"], "each once");
        assert!(order(&memory, &[], NOW).is_empty());
    }

    //
    #[test]
    fn whoever_sent_us_away_comes_last_for_a_minute() {
        let mut memory = Memory::default();
        memory.let_in(&"a");
        memory.avoid(&"a", NOW);
        memory.avoid(&"b", NOW + NEXT_AFTER);
        let hosts: [&[Name]; 3] = [&["a"], &["b"], &["c"]];
        assert_eq!(order(&memory, &hosts, NOW + NEXT_AFTER), ["c", "a", "b"]);
        memory.let_in(&"c");
        assert_eq!(order(&memory, &hosts, NOW + AVOIDED_FOR), ["c", "a", "b"]);
        memory.avoid(&"c", NOW + AVOIDED_FOR);
        assert_eq!(order(&memory, &hosts, NOW + AVOIDED_FOR), ["a", "b", "c"], "a's time is over, b's is not");
        memory.let_in(&"b");
        assert_eq!(order(&memory, &hosts, NOW + AVOIDED_FOR), ["b", "a", "c"], "what lets us in is not avoided");
    }

    #[test]
    fn of_many_addresses_each_host_has_some_tried_and_few_are_remembered() {
        let many: Vec<u32> = (0..99).collect();
        let mut memory = Memory::default();
        let order = memory.order(&[many, vec![1_000]], |_| false, NOW);
        assert_eq!((order.len(), order[1]), (TRIED_MAX, 1_000));
        (0..99).for_each(|address| memory.avoid(&address, NOW));
        assert_eq!(memory.avoided.len(), TRIED_MAX);
    }

    //
    #[test]
    fn a_silent_address_costs_a_moment_and_one_that_refuses_none() {
        let mut race = Race::new(["a", "b", "c"], NOW);
        assert_eq!((race.due(NOW), race.due(NOW)), (Some("a"), None));
        assert_eq!(race.next_at(), Some(NOW + NEXT_AFTER));
        assert_eq!(race.due(NOW + NEXT_AFTER), Some("b"));
        race.failed(NOW + NEXT_AFTER);
        assert_eq!(race.due(NOW + NEXT_AFTER), Some("c"));
        assert_eq!((race.next_at(), race.due(NOW + 9 * NEXT_AFTER)), (None, None));
    }
}
