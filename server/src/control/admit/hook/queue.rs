//! Who is asked about next: each network in its turn, so that none keeps the others waiting.

use std::collections::{HashMap, VecDeque};

use crate::core::Network;

/// Questions of those who wait at the door, from all networks together: about 500 bytes each, with a token.
const WAITING_MAX: usize = 1024;
/// Of one network: as many as get their answer within a client's 10 s from a service that takes a second for each.
const WAITING_PER_NETWORK_MAX: usize = 128;
/// Questions about one network's clients that the service is asked at the same time.
const ASKED_PER_NETWORK_MAX: usize = 16;
/// Questions about those who are in that wait to be asked again.
const AGAIN_MAX: usize = 1024;
/// Questions about those who are in that the service is asked at the same time: newcomers have the rest.
const AGAIN_ASKED_MAX: usize = 16;
/// So many of these go before newcomers: else a flood at the door would keep the service's word from those who are in.
const AGAIN_ASKED_FIRST: usize = 4;

/// Whose turn it is to be asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// They wait at the door, and came from there.
    Door(Network),
    /// They are in.
    Again,
}

/// Questions that wait, and how many of each lane are being asked.
pub(super) struct Queue<T> {
    door: HashMap<Network, VecDeque<T>>,
    /// Networks with somebody waiting, each once.
    turns: VecDeque<Network>,
    waiting: usize,
    asked: HashMap<Network, usize>,
    again: VecDeque<T>,
    again_asked: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            door: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            asked: HashMap::new(),
            again: VecDeque::new(),
            again_asked: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Puts a question at the end of its lane. If there is no room, gives back the one that is not asked: this one, or the
    /// last one of the network that has most.
    pub(super) fn push(&mut self, lane: Lane, question: T) -> Result<(), T> {
        let network = match lane {
            Lane::Again if self.again.len() >= AGAIN_MAX => return Err(question),
            Lane::Again => {
                self.again.push_back(question);
                return Ok(());
            }
            Lane::Door(network) => network,
        };
        let own = self.door.get(&network).map_or(0, VecDeque::len);
        if own >= WAITING_PER_NETWORK_MAX {
            return Err(question);
        }
        let mut ousted = None;
        if self.waiting >= WAITING_MAX {
            let most = self.door.iter().max_by_key(|(_, waiting)| waiting.len()).map(|(most, all)| (*most, all.len()));
            match most {
                Some((most, length)) if length > own + 1 => ousted = self.take(most, VecDeque::pop_back),
                _ => return Err(question),
            }
        }
        let waiting = self.door.entry(network).or_default();
        if waiting.is_empty() {
            self.turns.push_back(network);
        }
        waiting.push_back(question);
        self.waiting += 1;
        ousted.map_or(Ok(()), Err)
    }

    /// The question that is asked next, with the lane to name in [`Self::answered`] once it has been.
    pub(super) fn pop(&mut self) -> Option<(Lane, T)> {
        if self.again_asked < AGAIN_ASKED_FIRST
            && let Some(question) = self.again.pop_front()
        {
            self.again_asked += 1;
            return Some((Lane::Again, question));
        }
        for _ in 0..self.turns.len() {
            let network = self.turns.pop_front()?;
            let asked = self.asked.get(&network).copied().unwrap_or(0);
            if asked >= ASKED_PER_NETWORK_MAX {
                self.turns.push_back(network);
                continue;
            }
            self.turns.push_back(network);
            if let Some(question) = self.take(network, VecDeque::pop_front) {
                *self.asked.entry(network).or_default() += 1;
                return Some((Lane::Door(network), question));
            }
        }
        if self.again_asked >= AGAIN_ASKED_MAX {
            return None;
        }
        let question = self.again.pop_front()?;
        self.again_asked += 1;
        Some((Lane::Again, question))
    }

    /// A question of this lane is not being asked any more.
    pub(super) fn answered(&mut self, lane: Lane) {
        let Lane::Door(network) = lane else {
            self.again_asked = self.again_asked.saturating_sub(1);
            return;
        };
        if let Some(asked) = self.asked.get_mut(&network) {
            *asked -= 1;
            if *asked == 0 {
                self.asked.remove(&network);
            }
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting + self.again.len()
    }

    fn take(&mut self, network: Network, take: fn(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let waiting = self.door.get_mut(&network)?;
        let question = take(waiting)?;
        self.waiting -= 1;
        if waiting.is_empty() {
            self.door.remove(&network);
            self.turns.retain(|other| *other != network);
        }
        Some(question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u16) -> Lane {
        let [high, low] = last.to_be_bytes();
        Lane::Door(Network::of([192, 0, high, low].into()))
    }

    fn next(queue: &mut Queue<&'static str>) -> Option<&'static str> {
        let (lane, question) = queue.pop()?;
        queue.answered(lane);
        Some(question)
    }

    //
    #[test]
    fn each_network_has_its_turn_however_many_questions_another_has() {
        let mut queue = Queue::default();
        for _ in 0..100 {
            queue.push(from(1), "flood").expect("room");
        }
        queue.push(from(2), "one").expect("room");
        queue.push(from(3), "other").expect("room");
        let first: Vec<_> = (0..4).filter_map(|_| next(&mut queue)).collect();
        assert_eq!(first, ["flood", "one", "other", "flood"]);
    }

    //
    #[test]
    fn whoever_comes_while_all_room_is_taken_gets_that_of_the_network_with_most() {
        let mut queue = Queue::default();
        for network in 0..(WAITING_MAX / WAITING_PER_NETWORK_MAX) as u16 {
            for _ in 0..WAITING_PER_NETWORK_MAX {
                queue.push(from(network), "flood").expect("room");
            }
            assert_eq!(queue.push(from(network), "too many"), Err("too many"), "of one network");
        }
        assert_eq!(queue.len(), WAITING_MAX);
        assert_eq!(queue.push(from(1000), "newcomer"), Err("flood"));
        assert_eq!(queue.len(), WAITING_MAX, "one for one");
        let asked: Vec<_> = (0..=WAITING_MAX / WAITING_PER_NETWORK_MAX).filter_map(|_| next(&mut queue)).collect();
        assert!(asked.contains(&"newcomer"), "{asked:?}");
    }

    #[test]
    fn a_network_whose_questions_get_no_answer_leaves_room_for_others_and_for_those_who_are_in() {
        let mut queue = Queue::default();
        for _ in 0..=ASKED_PER_NETWORK_MAX {
            queue.push(from(1), "flood").expect("room");
        }
        for _ in 0..=AGAIN_ASKED_MAX {
            queue.push(Lane::Again, "again").expect("room");
        }
        for _ in 0..AGAIN_ASKED_FIRST {
            assert_eq!(queue.pop(), Some((Lane::Again, "again")));
        }
        for _ in 0..ASKED_PER_NETWORK_MAX {
            assert_eq!(queue.pop(), Some((from(1), "flood")));
        }
        queue.push(from(2), "other").expect("room");
        assert_eq!(queue.pop(), Some((from(2), "other")), "newcomers come before the rest of those who are in");
        for _ in AGAIN_ASKED_FIRST..AGAIN_ASKED_MAX {
            assert_eq!(queue.pop(), Some((Lane::Again, "again")));
        }
        assert_eq!(queue.pop(), None, "as many as may are being asked");
        queue.answered(from(1));
        assert_eq!(queue.pop(), Some((from(1), "flood")));
        assert_eq!(queue.len(), 1);
    }
}
