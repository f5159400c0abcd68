//! Ends sessions whose right to be here has ended: their token, delegation or place on a list, or a service's word.
//!
//! Nothing is timed for each session and no packet pays for it. Once a second the shard looks at some of its sessions, in
//! [`ROUND_S`] seconds at all of them; and once the door has changed ([`Admit::generation`](crate::core::Admit)), at all
//! of them in as many turns as it takes, a bounded number in each.

use super::Engine;
use crate::core::Now;

/// Seconds in which every session is looked at.
const ROUND_S: usize = 16;
/// Sessions that are looked at in a turn at most once the door has changed: a fifth of a millisecond.
const AT_ONCE: usize = 1024;

/// How far a shard's looks have come.
#[derive(Debug, Default)]
pub(crate) struct Reviews {
    /// The connection that is looked at next.
    next: usize,
    /// What the door's generation was when it was looked at last.
    generation: u64,
    /// How many places are still to be asked about, whatever was granted, because the door has changed.
    anyway: usize,
}

impl Reviews {
    pub(crate) fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// Whether the door has changed and not everybody has been asked about since.
    pub(crate) fn is_under_way(&self) -> bool {
        self.anyway > 0
    }
}

impl Engine {
    /// To be called once a second.
    pub(crate) fn review_second(&mut self, now: Now) {
        let places = self.connections.len();
        let generation = self.admission.generation();
        if generation != self.reviews.generation {
            self.reviews.generation = generation;
            self.reviews.anyway = places;
        }
        self.review(AT_ONCE.max(places.div_ceil(ROUND_S)), now);
    }

    /// To be called once a turn: goes on with what a changed door began.
    pub(crate) fn review_turn(&mut self, now: Now) {
        if self.reviews.is_under_way() {
            self.review(AT_ONCE, now);
        }
    }

    fn review(&mut self, at_most: usize, now: Now) {
        let places = self.connections.len();
        for _ in 0..at_most.min(places) {
            let link = self.reviews.next % places;
            self.reviews.next = link + 1;
            let anyway = self.reviews.anyway > 0;
            self.reviews.anyway = self.reviews.anyway.saturating_sub(1);
            let Some(connection) = self.connections[link].as_ref().filter(|other| other.session().is_some()) else {
                continue;
            };
            let from = connection.quic.remote_address().ip();
            if let Err(code) = self.core.review(link as u32, from, anyway, &*self.admission, now) {
                self.close(link as u32, code, now);
            }
        }
    }
}
