//! Homes that this node was, and has given up.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use supernode_proto::identity::RoomId;

use crate::core::Fence;

/// How long a home that was given up is remembered. Default 10 s: far more than mail within a node takes.
const GIVEN_UP_FOR: Duration = Duration::from_secs(10);
/// How many of them at one desk. Default 16,384: so many rooms that end in 10 s. Of more the oldest are forgotten.
const GIVEN_UP_MAX: usize = 16_384;

/// Decisions that made this node the home of rooms, and that it has given up since: it may be told of them once more by mail
/// that was on its way, and must not act by them again, for another node may be the home by then.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    fences: BTreeMap<RoomId, (Fence, Instant)>,
    in_order: VecDeque<(Instant, RoomId)>,
}

impl GivenUp {
    pub(super) fn add(&mut self, room: RoomId, fence: Fence, now: Instant) {
        while let Some((since, earlier)) = self.in_order.front().copied()
            && (now.saturating_duration_since(since) >= GIVEN_UP_FOR || self.in_order.len() >= GIVEN_UP_MAX)
        {
            self.in_order.pop_front();
            if self.fences.get(&earlier).is_some_and(|(_, at)| *at == since) {
                self.fences.remove(&earlier);
            }
        }
        self.fences.insert(room, (fence, now));
        self.in_order.push_back((now, room));
    }

    pub(super) fn has(&self, room: &RoomId, fence: Fence, now: Instant) -> bool {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < GIVEN_UP_FOR;
        let is_it = |known: Fence| fence == known || fence.is_before(known);
        self.fences.get(room).is_some_and(|(known, since)| is_it(*known) && is_recent(*since))
    }
}
