//! What a worker counts.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use serde::{Deserialize, Serialize};
use supernode_measure::histogram::Histogram;

use super::part::histogram;

/// Counts of one worker over the measured part, unless it says otherwise.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Objects that were due.
    pub(super) due: u64,
    /// Those that QUIC would not take: the path to the relay was full, or the session gone.
    pub(super) held_back: u64,
    /// Deliveries that should follow from what was due.
    pub(super) expected: u64,
    /// Deliveries to those that should have them, each once.
    pub(super) delivered: u64,
    /// Those that came after the scenario's bound.
    pub(super) late: u64,
    /// Deliveries of what had been delivered.
    pub(super) duplicates: u64,
    /// Deliveries after one that was sent later.
    pub(super) reordered: u64,
    /// Deliveries to slow readers, to those who come and go, and to those who flood.
    pub(super) delivered_aside: u64,
    /// Bytes of what was delivered.
    pub(super) bytes: u64,
    /// From due to delivered.
    #[serde(with = "histogram")]
    pub(super) delay: Histogram,
    /// From due to handed to the kernel, with what QUIC held an object back for its congestion window.
    #[serde(with = "histogram")]
    pub(super) lag: Histogram,
    /// From due to a session that is in its rooms with its tracks; over the whole run.
    #[serde(with = "histogram")]
    pub(super) setup: Histogram,
    /// Sessions that ended unasked, by the reason; over the whole run.
    pub(super) closed: BTreeMap<String, u64>,
    /// Of them those that should have stayed.
    pub(super) sessions_lost: u64,
    /// Requests that were refused, by the reason; over the whole run.
    pub(super) refused: BTreeMap<String, u64>,
    /// Comings of those who come and go; over the whole run.
    pub(super) churn_due: u64,
    /// Of them those that were due before the last one was ready.
    pub(super) churn_missed: u64,
    /// Those who come and go and were sent away; over the whole run.
    pub(super) churn_lost: u64,
    /// Sessions that were due in the measured part and are where they should be.
    pub(super) opened: u64,
    /// Objects that QUIC took and had not sent when the run was over.
    pub(super) unsent: u64,
    /// Members that were put out, and the relay said so.
    pub(super) put_out: u64,
    /// Of them those that had heard nothing until then.
    pub(super) put_out_deaf: u64,
    /// Requests of outsiders that were refused as they must be.
    pub(super) turned_away: u64,
    /// Requests of outsiders that were granted, and objects that reached them; over the whole run.
    pub(super) trespasses: u64,
    /// Objects of flooders that were due.
    pub(super) flood_due: u64,
    /// Of them those that QUIC took.
    pub(super) flood_taken: u64,
}

/// A piece of a run: one second for the charts, or a stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Interval {
    pub(super) due: u64,
    pub(super) expected: u64,
    pub(super) delivered: u64,
    #[serde(with = "histogram")]
    pub(super) delay: Histogram,
    pub(super) lag_max_us: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.held_back += other.held_back;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.late += other.late;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.delivered_aside += other.delivered_aside;
        self.bytes += other.bytes;
        self.delay.add(&other.delay);
        self.lag.add(&other.lag);
        self.setup.add(&other.setup);
        self.sessions_lost += other.sessions_lost;
        self.churn_due += other.churn_due;
        self.churn_missed += other.churn_missed;
        self.churn_lost += other.churn_lost;
        self.opened += other.opened;
        self.unsent += other.unsent;
        self.put_out += other.put_out;
        self.put_out_deaf += other.put_out_deaf;
        self.turned_away += other.turned_away;
        self.trespasses += other.trespasses;
        self.flood_due += other.flood_due;
        self.flood_taken += other.flood_taken;
        add_each(&mut self.closed, &other.closed);
        add_each(&mut self.refused, &other.refused);
    }
}

impl Interval {
    pub(super) fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.delay.add(&other.delay);
        self.lag_max_us = self.lag_max_us.max(other.lag_max_us);
    }
}

/// Pieces that nothing is added to any more, while the run goes on: summed over the workers, each of which tells its own.
#[derive(Debug)]
pub(super) struct Settled {
    workers: u32,
    untaken: Mutex<Untaken>,
}

#[derive(Debug, Default)]
struct Untaken {
    /// The place of the first one.
    from: usize,
    /// Each with how many workers have told theirs.
    pieces: VecDeque<(Interval, u32)>,
}

impl Settled {
    pub(super) fn new(workers: u32) -> Self {
        Self { workers, untaken: Mutex::default() }
    }

    /// Adds what a worker has of a piece. Each tells all of them, one after the other.
    pub(super) fn tell(&self, place: usize, piece: &Interval) {
        let mut untaken = self.untaken.lock().expect("nobody panics with it");
        let at = place - untaken.from;
        if untaken.pieces.len() <= at {
            untaken.pieces.resize_with(at + 1, Default::default);
        }
        let (sum, told) = &mut untaken.pieces[at];
        sum.add(piece);
        *told += 1;
    }

    /// Those that all workers have told since the last time, each with its place.
    pub(super) fn take(&self) -> Vec<(usize, Interval)> {
        let mut untaken = self.untaken.lock().expect("nobody panics with it");
        let Untaken { from, pieces } = &mut *untaken;
        let mut taken = Vec::new();
        while let Some((piece, _)) = pieces.front().filter(|(_, told)| *told == self.workers) {
            taken.push((*from, piece.clone()));
            pieces.pop_front();
            *from += 1;
        }
        taken
    }
}

fn add_each(own: &mut BTreeMap<String, u64>, other: &BTreeMap<String, u64>) {
    for (reason, count) in other {
        *own.entry(reason.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_has_settled_once_every_worker_has_told_it_and_is_taken_once() {
        let settled = Settled::new(2);
        let due = |due| Interval { due, ..Interval::default() };
        settled.tell(0, &due(1));
        settled.tell(1, &due(10));
        assert!(settled.take().is_empty());
        settled.tell(0, &due(2));
        let taken = |taken: Vec<(usize, Interval)>| -> Vec<_> {
            taken.into_iter().map(|(place, piece)| (place, piece.due)).collect()
        };
        assert_eq!(taken(settled.take()), [(0, 3)]);
        settled.tell(1, &due(20));
        settled.tell(2, &due(100));
        assert_eq!(taken(settled.take()), [(1, 30)]);
        settled.tell(2, &due(200));
        assert_eq!(taken(settled.take()), [(2, 300)]);
        assert!(settled.take().is_empty());
    }
}
