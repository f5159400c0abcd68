//! Which epoch it is: everything that was ever written between two losses of the bucket's content.

use std::time::Duration;

use super::{
    bucket::{Act, Answer, Entry, Key, Moment, Value},
    node::Asking,
};

/// What a node knows of the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct EpochSeen {
    /// The one it is, and when that was first heard.
    current: Option<(u64, Moment)>,
    /// Somebody wrote that it is old enough for homes.
    ripe: bool,
    /// The bucket is to be asked, by a request with at least this number: an answer to one before it may be of a time before
    /// what is in doubt.
    in_doubt: Option<u64>,
    /// It said that it is in none.
    none_there: bool,
}

impl EpochSeen {
    /// The epoch, where it is known and not in doubt.
    pub(crate) fn current(&self) -> Option<u64> {
        let (number, _) = self.current?;
        self.in_doubt.is_none().then_some(number)
    }

    /// The epoch that was last known.
    pub(crate) fn last(&self) -> Option<u64> {
        self.current.map(|(number, _)| number)
    }

    /// Makes it be asked for again, by a request that is still to be made.
    pub(crate) const fn doubt(&mut self, next_number: u64) {
        self.in_doubt = Some(next_number);
    }

    /// Whether no life of an older epoch can be held any more: those were renewed for the last time before this one was
    /// there, and so before it was heard of.
    pub(crate) fn is_ripe(&self, now: Moment, wait: Duration) -> bool {
        self.ripe || self.is_old(now, wait)
    }

    /// Whether somebody should write that it is.
    pub(crate) fn should_say_ripe(&self, now: Moment, wait: Duration) -> bool {
        !self.ripe && self.is_old(now, wait)
    }

    fn is_old(&self, now: Moment, wait: Duration) -> bool {
        self.current.is_some_and(|(_, since)| now >= since + wait)
    }

    /// Somebody wrote that it is old enough.
    pub(crate) fn handle_ripe(&mut self, epoch: u64) {
        self.ripe |= self.last() == Some(epoch);
    }

    /// What is to be asked; `next` is a number that no epoch ever had.
    pub(crate) fn wish(&self, next: u64) -> Option<Act> {
        if self.none_there {
            return Some(Act::Write { key: Key::Epoch, expected: 0, value: Value::Epoch(next) });
        }
        (self.in_doubt.is_some() || self.current.is_none()).then_some(Act::Read(Key::Epoch))
    }

    /// Takes what the bucket says; says whether it is another epoch from now on.
    pub(crate) fn handle_answer(&mut self, asking: &Asking, answer: Answer, now: Moment) -> bool {
        if matches!(asking.act, Act::Write { .. }) {
            // Whatever became of it, the bucket says which one it is.
            self.none_there = false;
            return false;
        }
        match answer {
            Answer::Found(Some(Entry { value: Value::Epoch(number), .. })) => {
                if self.in_doubt.is_some_and(|from| asking.number >= from) {
                    self.in_doubt = None;
                }
                if self.last() == Some(number) {
                    return false;
                }
                (self.current, self.ripe) = (Some((number, now)), false);
                true
            }
            Answer::Found(None) => {
                self.none_there = true;
                false
            }
            _ => false,
        }
    }
}
