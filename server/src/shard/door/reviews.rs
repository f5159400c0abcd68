//! Ends sessions whose right to be here has ended: their token, delegation or place on a list, or a service's word.
//!
//! Nothing is timed for each session and no packet pays for it. Once a second the shard looks at some of its sessions, in
//! [`ROUND_S`] seconds at all of them; and once the door has changed ([`Admit::generation`](crate::core::Admit)), at all
//! of them in as many turns as it takes, a bounded number in each.

use supernode_proto::close::CloseCode;

use crate::{
    core::{Admit, Now, ShardCore},
    shard::{connections::Connections, tcp},
};

/// Seconds in which every session is looked at.
const ROUND_S: u32 = 16;
/// Sessions that are looked at in a turn at most once the door has changed: a fifth of a millisecond.
const AT_ONCE: u32 = 1024;

/// How far a shard's looks have come.
#[derive(Debug, Default)]
pub(super) struct Reviews {
    /// The connection that is looked at next.
    next: u32,
    /// What the door's generation was when it was looked at last.
    generation: u64,
    /// How many links are still to be asked about, whatever was granted, because the door has changed.
    anyway: u32,
}

impl Reviews {
    pub(super) fn new(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// Whether the door has changed and not everybody has been asked about since.
    pub(super) fn is_under_way(&self) -> bool {
        self.anyway > 0
    }

    /// To be called once a second. Returns whose sessions are to be closed, and why.
    pub(super) fn review_second(
        &mut self,
        connections: &Connections,
        core: &mut ShardCore,
        admission: &dyn Admit,
        now: Now,
    ) -> Vec<(u32, CloseCode)> {
        let generation = admission.generation();
        if generation != self.generation {
            self.generation = generation;
            self.anyway = connections.links();
        }
        self.review(AT_ONCE.max(connections.links().div_ceil(ROUND_S)), connections, core, admission, now)
    }

    /// To be called once a turn: goes on with what a changed door began. Returns whose sessions are to be closed, and why.
    pub(super) fn review_turn(
        &mut self,
        connections: &Connections,
        core: &mut ShardCore,
        admission: &dyn Admit,
        now: Now,
    ) -> Vec<(u32, CloseCode)> {
        match self.is_under_way() {
            true => self.review(AT_ONCE, connections, core, admission, now),
            false => Vec::new(),
        }
    }

    fn review(
        &mut self,
        at_most: u32,
        connections: &Connections,
        core: &mut ShardCore,
        admission: &dyn Admit,
        now: Now,
    ) -> Vec<(u32, CloseCode)> {
        let links = connections.links();
        let mut over = Vec::new();
        for _ in 0..at_most.min(links) {
            let link = self.next % links;
            self.next = link + 1;
            let anyway = self.anyway > 0;
            self.anyway = self.anyway.saturating_sub(1);
            let open = connections.get(link).filter(|other| other.session().is_some());
            let Some(connection) = open else { continue };
            let from = tcp::plain(connection.quic.remote_address()).ip();
            if let Err(code) = core.review(link, from, anyway, admission, now) {
                over.push((link, code));
            }
        }
        over
    }
}
