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

use super::{Context, Streams};
use crate::{
    core::{Address, StreamKey, ledger::DropReason},
    shard::{
        connections::{
            Connections,
            connection::{Connection, Ingress},
        },
        post::{
            Post,
            inbox::{Letter, MediaMail},
        },
    },
};

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
    by: Vec<Address>,
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

    fn is_holding(&self, key: StreamKey) -> bool {
        self.holding.iter().any(|(other, _)| *other == key)
    }

    /// A stream that nobody holds any more and that has more to read.
    fn resumable(&mut self) -> Option<(u32, StreamId)> {
        let (key, unread) =
            self.held.iter().find(|(_, held)| held.by.is_empty()).map(|(key, held)| (*key, held.unread))?;
        self.held.remove(&key);
        unread.or_else(|| self.resumable())
    }

    /// A publisher's stream is over.
    pub(super) fn forget(&mut self, key: StreamKey) {
        self.held.remove(&key);
    }
}

impl Streams {
    /// Lets the publishers go on whose data has been taken, and takes streams from subscribers that stall.
    pub(crate) fn release(&mut self, cx: &mut Context<'_>, now: Instant) {
        let bound = cx.core.limits().data_queue_bytes_max;
        for (key, since) in std::mem::take(&mut self.holds.holding) {
            if now.saturating_duration_since(since) > STALL_MAX {
                self.drop_stalled(key, bound / RELEASE_SHARE, cx);
            }
            if self.waits_most(key, cx.connections) > bound / RELEASE_SHARE {
                self.holds.holding.push((key, since));
            } else {
                self.tell_publisher(key, false, cx.post);
            }
        }
    }

    /// Where to go on reading: a stream that nobody holds any more and that has more to read.
    pub(crate) fn resumable(&mut self) -> Option<(u32, StreamId)> {
        self.holds.resumable()
    }

    /// A shard's subscribers hold a stream of this shard's publisher, or let it go on.
    pub(crate) fn set_hold(&mut self, key: StreamKey, by: Address, on: bool) {
        // It may have ended meanwhile.
        if on && (self.routes.contains_key(&key) || self.passing.contains_key(&key)) {
            self.holds.held.entry(key).or_default().by.push(by);
        } else if let Some(held) = self.holds.held.get_mut(&key) {
            held.by.retain(|other| *other != by);
        }
    }

    /// Part of a data stream came: holds its publisher when too much waits for a subscriber here.
    pub(super) fn hold_if_full(&mut self, key: StreamKey, cx: &mut Context<'_>, now: Instant) {
        let mark = cx.core.limits().data_queue_bytes_max / HOLD_SHARE;
        if self.waits_most(key, cx.connections) > mark && !self.holds.is_holding(key) {
            self.holds.holding.push((key, now));
            self.tell_publisher(key, true, cx.post);
        }
    }

    /// Bytes of a publisher's data stream have been passed on: asks the other shards, when they are many, whether they have
    /// seen them, and holds the stream until they have.
    pub(super) fn hold_until_seen(&mut self, ingress: &mut Ingress, bytes: usize, cx: &mut Context<'_>) {
        let key = ingress.key;
        // What waits for other nodes is seen here.
        let here = self.at.node;
        let passed = self.passing.get(&key).map(|passing| passing.to);
        let remote =
            self.routes.get(&key).filter(|_| passed.is_none()).map(|route| &route.remote[..]).unwrap_or_default();
        let others: Vec<Address> =
            remote.iter().map(|other| other.at).filter(|at| at.node == here).chain(passed).collect();
        if others.is_empty() {
            return;
        }
        ingress.unseen_bytes += bytes;
        if ingress.unseen_bytes <= cx.core.limits().data_queue_bytes_max / HOLD_SHARE {
            return;
        }
        ingress.unseen_bytes = 0;
        for other in others {
            // A shard whose inbox is full loses the stream with its next part.
            if cx.post.put_media(other, MediaMail::StreamSeen { key }) {
                self.set_hold(key, other, true);
            }
        }
    }

    /// All that the publisher's shard had put before it asked has been seen. Whoever passes the stream on asks further, and
    /// says for whom before they can answer.
    pub(super) fn answer_seen(&mut self, key: StreamKey, post: &mut Post) {
        let route = self.routes.get(&key).filter(|route| route.gathered);
        for by in route.into_iter().flat_map(|route| &route.remote).map(|other| other.at).collect::<Vec<_>>() {
            post.put_letter(key.at, Letter::StreamHold { key, by, on: true });
            if !post.put_media(by, MediaMail::StreamSeen { key }) {
                post.put_letter(key.at, Letter::StreamHold { key, by, on: false });
            }
        }
        // Those who are too slow here let it go on when they have caught up.
        if !self.holds.is_holding(key) {
            self.tell_publisher(key, false, post);
        }
    }

    fn tell_publisher(&mut self, key: StreamKey, on: bool, post: &mut Post) {
        let by = post.address();
        if key.at == by {
            self.set_hold(key, by, on);
        } else {
            post.put_letter(key.at, Letter::StreamHold { key, by, on });
        }
    }

    /// Bytes of a stream that wait for the subscriber here for whom most do.
    fn waits_most(&self, key: StreamKey, connections: &Connections) -> usize {
        let waits = |link: u32| {
            let egress = &connections.get(link)?.egress;
            egress.iter().find(|(other, _)| *other == key).map(|(_, egress)| egress.queue.bytes())
        };
        let route = self.routes.get(&key);
        let links = route.into_iter().flat_map(|route| &route.local).map(|target| target.subscriber.link);
        links.filter_map(waits).max().unwrap_or(0)
    }

    fn drop_stalled(&self, key: StreamKey, bytes_max: usize, cx: &mut Context<'_>) {
        for target in self.routes.get(&key).into_iter().flat_map(|route| &route.local) {
            let Some(connection) = cx.connections.get_mut(target.subscriber.link) else { continue };
            let Connection { egress, quic, .. } = connection;
            if let Some((_, egress)) = egress.iter_mut().find(|(other, _)| *other == key)
                && egress.queue.bytes() > bytes_max
            {
                egress.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, &mut cx.core.ledger);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use supernode_proto::{control::TrackKind, identity::RoomId, object::TrackAlias};

    use super::*;
    use crate::{
        core::{
            ShardCore, ShardId,
            directory::Directory,
            fan_out::StreamRoute,
            forward::{Carries, Demand, Remote},
            limits::Limits,
            stream::StreamParser,
        },
        shard::{
            connections::gaps::Gaps,
            post::inbox::{Inbox, inbox},
        },
    };

    /// As a packet brings it.
    const CHUNK_BYTES: usize = 1_200;

    /// The streams of the first of two shards, what they go through, and the other's inbox.
    fn first_of_two() -> (Streams, ShardCore, Connections, Post, Inbox) {
        let at = Address::local(ShardId(0));
        let ((own, _), (other, other_inbox)) = (inbox().expect("a descriptor"), inbox().expect("a descriptor"));
        let core = ShardCore::new(at, Arc::new(Directory::new(Limits::default())));
        (Streams::new(at), core, Connections::new(Duration::ZERO), Post::new(at, vec![own, other]), other_inbox)
    }

    //
    #[test]
    fn no_more_data_is_on_its_way_to_another_shard_than_it_has_said_that_it_has_seen() {
        let (mut streams, mut core, mut connections, mut post, other_inbox) = first_of_two();
        let cx = &mut Context { core: &mut core, connections: &mut connections, post: &mut post };
        let now = Instant::now();
        let key = streams.begin();
        let carries = Carries { kind: TrackKind::Data, room: RoomId([1; 16]), activity: false, member: 1 };
        let mut route = StreamRoute::empty(TrackAlias::new(7).expect("small"), carries);
        route.remote.push(Remote { at: Address::local(ShardId(1)), demand: Demand::default() });
        streams.routes.insert(key, route);
        let mut ingress = Ingress {
            key,
            kind: TrackKind::Data,
            parser: StreamParser::default(),
            unseen_bytes: 0,
            gaps: Gaps::default(),
        };
        let id = StreamId::new(quinn_proto::Side::Client, quinn_proto::Dir::Uni, 0);
        let unseen_max = cx.core.limits().data_queue_bytes_max / HOLD_SHARE;
        for _ in 0..3 {
            let mut passed = 0;
            while !streams.postpones(key, 5, id) {
                streams.hold_until_seen(&mut ingress, CHUNK_BYTES, cx);
                passed += CHUNK_BYTES;
                assert!(passed <= unseen_max + CHUNK_BYTES, "{passed} bytes are on their way");
            }
            assert!(passed > unseen_max, "it is held for {passed} bytes already");
            let asked: Vec<_> = other_inbox.media.try_iter().collect();
            assert!(matches!(asked[..], [MediaMail::StreamSeen { key: of }] if of == key), "{asked:?}");
            // The other shard takes its time: nothing goes on meanwhile.
            streams.release(cx, now);
            assert_eq!(streams.resumable(), None);
            assert!(streams.postpones(key, 5, id));
            streams.set_hold(key, Address::local(ShardId(1)), false);
            streams.release(cx, now);
            assert_eq!(streams.resumable(), Some((5, id)));
        }
        streams.finish(key, cx);
        assert_eq!(streams.holds.len(), (0, 0));
    }

    //
    #[test]
    fn a_shard_says_that_it_has_seen_data_unless_somebody_there_is_too_slow() {
        let (mut streams, mut core, mut connections, mut post, other_inbox) = first_of_two();
        let cx = &mut Context { core: &mut core, connections: &mut connections, post: &mut post };
        let now = Instant::now();
        let key = StreamKey { at: Address::local(ShardId(1)), number: 1 };
        let here = cx.post.address();
        streams.handle_mail(MediaMail::StreamSeen { key }, cx, now);
        let said: Vec<_> = other_inbox.letters().collect();
        assert!(
            matches!(said[..], [Letter::StreamHold { key: of, by, on: false }] if of == key && by == here),
            "{said:?}"
        );
        streams.holds.holding.push((key, now));
        streams.handle_mail(MediaMail::StreamSeen { key }, cx, now);
        assert_eq!(other_inbox.letters().count(), 0, "who holds it says so when it goes on");
        streams.release(cx, now);
        let said: Vec<_> = other_inbox.letters().collect();
        assert!(matches!(said[..], [Letter::StreamHold { on: false, .. }]), "{said:?}");
    }
}
