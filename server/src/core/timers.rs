//! One shard's pending deadlines of the control plane.

use std::{cmp::Ordering, collections::BinaryHeap, time::Instant};

use supernode_proto::{
    identity::{IdentityKey, RoomId},
    object::TrackAlias,
};

use super::{RingId, SessionId};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Tell the watchers of this identity what is true now.
    Presence(IdentityKey),
    /// Nobody answered.
    Ring(RingId),
    /// Look whether tickets behind this session's watches ran out.
    Watches(SessionId),
    /// A key frame of this track may be asked for again.
    Keyframe(TrackAlias),
    /// Tell other nodes what is true of this identity here.
    Report(IdentityKey),
    /// Other nodes have had long enough to say whether this ring rings there,
    RingStart(RingId),
    /// and for the key packages of this request.
    Take(u64),
    /// A part of the round of what is known from other nodes.
    Round,
    /// Look whether what is asked of this room can be carried out now.
    Desk(RoomId),
    /// Look whether places where this identity can be woken have ended.
    PushEndpoints(IdentityKey),
}

/// A heap of deadlines. Entries are not removed: who handles one checks that it still means something.
/// Bounded by what makes them: one a ring, one a session that watches, one a pending presence announcement, one an
/// identity that can be woken, one a track of which a key frame was wished for too early; in a cluster one an identity of which
/// others are to be told, one a room of which something waits, and one a round and whatever made it begin anew.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Entry>,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    due: Due,
}

impl Timers {
    pub(crate) fn insert(&mut self, at: Instant, due: Due) {
        self.heap.push(Entry { at, due });
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.due)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// Earliest first: `BinaryHeap` pops the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}
