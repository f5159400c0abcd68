//! Data that comes faster than a subscriber takes it: its publisher is held, by QUIC's flow control, until it does.
//!
//! The shard that owes the bytes notices, and tells the publisher's shard, which reads no more of that one stream. Other
//! streams and all datagrams of the publisher go on. A subscriber that stalls for too long loses the stream, so that the
//! others get the rest.
//!
//! A shard that has no CPU for a while notices nothing. So every so many bytes a publisher's shard asks the others whether
//! they have seen them, and holds the stream until they have: what is on its way is bounded as well.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use quinn_proto::StreamId;
use supernode_proto::close::StreamCode;

use super::{
    connection::Ingress,
    engine::Engine,
    inbox::{Letter, MediaMail},
};
use crate::core::{Now, ShardId, StreamKey, ledger::DropReason};

/// Share of the bound on a data stream's queue at which its publisher is held, and that may be on its way to other shards
/// unseen: the two fit into it twice.
const HOLD_SHARE: usize = 4;
/// Share at which it goes on.
const RELEASE_SHARE: usize = 8;
/// How long one subscriber may hold a stream before it loses it.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Streams that are held: for others' sake, and by others.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Streams that this shard's subscribers hold, and since when.
    holding: Vec<(StreamKey, Instant)>,
    /// This shard's publishers' streams that are held.
    held: HashMap<StreamKey, Held, FixedState>,
}

#[derive(Debug, Default)]
struct Held {
    by: Vec<ShardId>,
    /// Where to go on reading, if there was more to read.
    unread: Option<(u32, StreamId)>,
}

impl Holds {
    /// Whether a publisher's stream must not be read now; notes where to go on.
    pub(super) fn postpones(&mut self, key: StreamKey, link: u32, id: StreamId) -> bool {
        let held = self.held.get_mut(&key);
        held.is_some_and(|held| {
            held.unread = Some((link, id));
            true
        })
    }

    /// How many streams are held for the sake of this shard's subscribers, and how many of its publishers are.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.holding.len(), self.held.len())
    }

    /// A publisher's stream is over.
    pub(super) fn forget(&mut self, key: StreamKey) {
        self.held.remove(&key);
    }
}

impl Engine {
    /// Part of a data stream came: holds its publisher when too much waits for a subscriber here.
    pub(super) fn hold_if_full(&mut self, key: StreamKey, now: Instant) {
        let mark = self.core.limits().data_queue_bytes_max / HOLD_SHARE;
        if self.waits_most(key) > mark && self.holds.holding.iter().all(|(other, _)| *other != key) {
            self.holds.holding.push((key, now));
            self.tell_publisher(key, true);
        }
    }

    /// Bytes of a publisher's data stream have been passed on: asks the other shards, when they are many, whether they have
    /// seen them, and holds the stream until they have.
    pub(super) fn hold_until_seen(&mut self, ingress: &mut Ingress, bytes: usize) {
        let key = ingress.key;
        let Some(route) = self.streams.get(&key).filter(|route| !route.remote.is_empty()) else { return };
        ingress.unseen_bytes += bytes;
        if ingress.unseen_bytes <= self.core.limits().data_queue_bytes_max / HOLD_SHARE {
            return;
        }
        ingress.unseen_bytes = 0;
        for other in route.remote.iter().map(|other| other.shard).collect::<Vec<_>>() {
            // A shard whose inbox is full loses the stream with its next part.
            if self.put_media(other, MediaMail::StreamSeen { key }) {
                self.set_hold(key, other, true);
            }
        }
    }

    /// All that the publisher's shard had put before it asked has been seen.
    pub(super) fn answer_seen(&mut self, key: StreamKey) {
        // Those who are too slow here let it go on when they have caught up.
        if self.holds.holding.iter().all(|(other, _)| *other != key) {
            self.tell_publisher(key, false);
        }
    }

    /// Lets the publishers go on whose data has been taken, and takes streams from subscribers that stall.
    pub(super) fn release_holds(&mut self, now: Now) {
        let bound = self.core.limits().data_queue_bytes_max;
        for (key, since) in std::mem::take(&mut self.holds.holding) {
            if now.instant.saturating_duration_since(since) > STALL_MAX {
                self.drop_stalled(key, bound / RELEASE_SHARE);
            }
            if self.waits_most(key) > bound / RELEASE_SHARE {
                self.holds.holding.push((key, since));
            } else {
                self.tell_publisher(key, false);
            }
        }
        while let Some((link, id)) = self.resumable() {
            let Some(mut connection) = self.connections.get_mut(link as usize).and_then(Option::take) else { continue };
            self.read_media(link, &mut connection, id, now);
            self.connections[link as usize] = Some(connection);
            self.touch(link);
        }
    }

    /// A shard's subscribers hold a stream of this shard's publisher, or let it go on.
    pub(super) fn set_hold(&mut self, key: StreamKey, by: ShardId, on: bool) {
        // It may have ended meanwhile.
        if on && self.streams.contains_key(&key) {
            self.holds.held.entry(key).or_default().by.push(by);
        } else if let Some(held) = self.holds.held.get_mut(&key) {
            held.by.retain(|other| *other != by);
        }
    }

    fn tell_publisher(&mut self, key: StreamKey, on: bool) {
        if key.shard == self.shard {
            self.set_hold(key, self.shard, on);
        } else {
            self.put_control(key.shard, Letter::StreamHold { key, by: self.shard, on });
        }
    }

    /// A stream that nobody holds any more and that has more to read.
    fn resumable(&mut self) -> Option<(u32, StreamId)> {
        let (key, unread) =
            self.holds.held.iter().find(|(_, held)| held.by.is_empty()).map(|(key, held)| (*key, held.unread))?;
        self.holds.held.remove(&key);
        unread.or_else(|| self.resumable())
    }

    /// Bytes of a stream that wait for the subscriber here for whom most do.
    fn waits_most(&self, key: StreamKey) -> usize {
        let waits = |link: u32| {
            let connection = self.connections.get(link as usize)?.as_ref()?;
            connection.egress.iter().find(|(other, _)| *other == key).map(|(_, egress)| egress.queue.bytes())
        };
        let route = self.streams.get(&key);
        let links = route.into_iter().flat_map(|route| &route.local).map(|target| target.subscriber.link);
        links.filter_map(waits).max().unwrap_or(0)
    }

    fn drop_stalled(&mut self, key: StreamKey, bytes_max: usize) {
        let Self { streams, connections, core, .. } = self;
        for target in streams.get(&key).into_iter().flat_map(|route| &route.local) {
            let connection = connections.get_mut(target.subscriber.link as usize).and_then(Option::as_mut);
            let Some(connection) = connection else { continue };
            let super::connection::Connection { egress, quic, .. } = &mut **connection;
            if let Some((_, egress)) = egress.iter_mut().find(|(other, _)| *other == key)
                && egress.queue.bytes() > bytes_max
            {
                egress.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, &mut core.ledger);
            }
        }
    }
}
