//! Objects on their way through a shard: from a publisher's connection, or from another shard, to its subscribers'.

use std::time::Instant;

use bytes::Bytes;
use supernode_proto::{
    close::{CloseCode, StreamCode},
    control::TrackKind,
    object::StreamHeader,
};

use super::egress::Egress;
use crate::{
    core::{
        StreamKey,
        fan_out::{Offer, StreamRoute},
        ledger::{DropReason, Ledger, RefuseReason},
        stream::StreamPart,
    },
    shard::{
        connections::connection::{Connection, Ingress},
        engine::Engine,
        post::inbox::{Letter, MediaMail},
    },
};

/// Parts of one chunk are few: an object's header and body, rarely several small objects.
const PARTS_AT_ONCE: usize = 8;

impl Engine {
    /// Forwards an object in a datagram of a publisher. What is refused is counted, and the publisher not told.
    ///
    /// # Errors
    /// [`CloseCode::RATE_EXCEEDED`] for a publisher that sends far more than it was granted.
    pub(crate) fn forward_datagram(&mut self, link: u32, wire: &Bytes, now: Instant) -> Result<(), CloseCode> {
        let Self { core, connections, peers, unrung, dirty, .. } = self;
        let queue_bytes_max = core.limits().queue_bytes_max;
        let forwarded = core.forward_datagram(
            link,
            wire,
            now,
            |offer, ledger| deliver(connections, dirty, &offer, wire, queue_bytes_max, ledger),
            |shard| {
                unrung[shard.index()] = true;
                peers[shard.index()].put_media(MediaMail::Datagram { wire: wire.clone(), arrived: now })
            },
        );
        let exceeded = forwarded == Err(RefuseReason::RateExceeded);
        if exceeded && core.lose_patience(link, now) {
            self.outbox.counts.limit("ingest_excess_objects_max");
            return Err(CloseCode::RATE_EXCEEDED);
        }
        Ok(())
    }

    /// Media from another shard.
    pub(crate) fn handle_media(&mut self, mail: MediaMail, now: Instant) {
        match mail {
            MediaMail::Datagram { wire, arrived } => {
                let Self { core, connections, dirty, .. } = self;
                let queue_bytes_max = core.limits().queue_bytes_max;
                core.deliver_datagram(&wire, arrived, |offer, ledger| {
                    deliver(connections, dirty, &offer, &wire, queue_bytes_max, ledger);
                });
            }
            MediaMail::StreamOpen { key, header, wire } => {
                let aborted = self.aborted_early.contains(&key);
                if !aborted && let Some(route) = self.core.route_remote_stream(&header) {
                    self.open_stream_here(key, route, &header, &wire);
                }
            }
            MediaMail::StreamPart { key, part, arrived } => self.pass_part_here(key, &part, arrived),
            MediaMail::StreamEnd { key } => self.finish_stream_here(key),
            MediaMail::StreamSeen { key } => self.answer_seen(key),
            MediaMail::StreamJoin { stream, session } => self.join_stream_here(*stream, session, now),
            MediaMail::Packet(_) => {}
        }
    }

    /// Forwards bytes of a publisher's stream.
    ///
    /// # Errors
    /// The code to stop the stream with.
    pub(crate) fn forward_stream(
        &mut self,
        link: u32,
        ingress: &mut Ingress,
        chunk: Bytes,
        now: Instant,
    ) -> Result<(), StreamCode> {
        let bytes = chunk.len();
        let mut parts = Vec::with_capacity(PARTS_AT_ONCE);
        let opened = ingress.parser.parse(chunk, &mut parts).map_err(|_| {
            self.core.ledger.refuse(RefuseReason::Malformed);
            StreamCode::MALFORMED
        })?;
        let mut parts = parts.into_iter();
        if let Some(header) = opened {
            let mut route = self.core.route_stream(link, &header).map_err(|_| StreamCode::UNKNOWN_TRACK)?;
            // The header's own bytes are the first part.
            let wire = parts.next().map(|part| part.wire).unwrap_or_default();
            let key = ingress.key;
            ingress.kind = route.carries.kind;
            let (taken, lost) = route.remote.drain(..).partition(|other| {
                self.put_media(other.shard, MediaMail::StreamOpen { key, header, wire: wire.clone() })
            });
            route.remote = taken;
            route.lost = lost;
            if is_picture(&route) {
                self.core.keep_stream(key, &header, &wire);
            }
            self.open_stream_here(ingress.key, route, &header, &wire);
        }
        let begins = || parts.as_slice().iter().filter_map(|part| part.begins);
        let told = begins().any(|header| header.flags.activity() > 0);
        if told && self.streams.get(&ingress.key).is_some_and(|route| !route.carries.activity) {
            self.core.ledger.refuse(RefuseReason::Malformed);
            return Err(StreamCode::MALFORMED);
        }
        let objects = begins().count() as u64;
        self.core.charge_stream(link, ingress.kind, objects, bytes, now).map_err(|_| StreamCode::RATE_EXCEEDED)?;
        for part in parts {
            self.keep_part(ingress.key, &part);
            self.pass_part_on(ingress.key, &part, now);
            self.pass_part_here(ingress.key, &part, now);
        }
        if ingress.kind == TrackKind::Data {
            self.hold_until_seen(ingress, bytes);
        }
        Ok(())
    }

    /// The publisher has finished a stream.
    pub(crate) fn finish_stream(&mut self, key: StreamKey) {
        self.holds.forget(key);
        let Some(route) = self.streams.get(&key) else { return };
        let remote = route.remote.clone();
        self.core.cache.finish(route.alias, key);
        for other in remote {
            if !self.put_media(other.shard, MediaMail::StreamEnd { key }) {
                self.put_control(other.shard, Letter::StreamAborted(key, StreamCode::OVERLOADED));
            }
        }
        self.finish_stream_here(key);
    }

    /// The publisher has given a stream up, or is gone.
    pub(crate) fn abort_stream(&mut self, key: StreamKey) {
        self.holds.forget(key);
        let Some(route) = self.streams.get(&key) else { return };
        let remote = route.remote.clone();
        self.core.cache.abort(route.alias, key);
        for other in remote {
            self.put_control(other.shard, Letter::StreamAborted(key, StreamCode::CANCELLED));
        }
        self.abort_stream_here(key, StreamCode::CANCELLED);
    }

    /// Ends a stream before its last byte for this shard's subscribers.
    pub(crate) fn abort_stream_here(&mut self, key: StreamKey, code: StreamCode) {
        let Some(route) = self.streams.remove(&key) else { return };
        for target in &route.local {
            let link = target.subscriber.link;
            let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { continue };
            if let Some(position) = connection.egress.iter().position(|(other, _)| *other == key) {
                let (_, mut egress) = connection.egress.remove(position);
                egress.abandon(&mut connection.quic, code, DropReason::Cancelled, &mut self.core.ledger);
            }
            self.touch(link);
        }
    }

    /// Writes what a connection's media streams have waiting, and forgets those that are over.
    pub(crate) fn flush_streams(&mut self, link: u32, connection: &mut Connection, now: Instant) {
        if connection.egress.is_empty() {
            return;
        }
        connection.widen(self.core.directory().windows(), self.core.limits().relay_windows_bytes_max);
        let Connection { egress, quic, .. } = connection;
        let Self { core, lost_pictures, .. } = self;
        egress.retain_mut(|(_, egress)| {
            let was_abandoned = egress.is_abandoned();
            let over = egress.flush(quic, now, &mut core.ledger);
            if !was_abandoned && egress.is_expired() && egress.temporal_layer == 0 {
                lost_pictures.push((link, egress.alias));
            }
            !over
        });
    }

    fn pass_part_on(&mut self, key: StreamKey, part: &StreamPart, arrived: Instant) {
        let Self { streams, peers, unrung, core, .. } = self;
        let Some(StreamRoute { remote, lost, .. }) = streams.get_mut(&key) else { return };
        remote.retain(|other| {
            unrung[other.shard.index()] = true;
            let mailbox = &peers[other.shard.index()];
            let taken = mailbox.put_media(MediaMail::StreamPart { key, part: part.clone(), arrived });
            if !taken {
                mailbox.put_control(Letter::StreamAborted(key, StreamCode::OVERLOADED));
                lost.push(*other);
            }
            taken
        });
        if part.begins.is_some() {
            core.count_lost(lost);
        }
    }

    fn open_stream_here(&mut self, key: StreamKey, route: StreamRoute, header: &StreamHeader, wire: &Bytes) {
        for target in &route.local {
            let link = target.subscriber.link;
            let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { continue };
            let egress = Egress::new(header, wire.clone(), route.carries.kind, &target.subscriber);
            connection.egress.push((key, egress));
        }
        self.streams.insert(key, route);
    }

    fn pass_part_here(&mut self, key: StreamKey, part: &StreamPart, arrived: Instant) {
        let Self { streams, core, connections, dirty, .. } = self;
        let Some(route) = streams.get_mut(&key) else { return };
        let bounds = Bounds { media: core.limits().queue_bytes_max, data: core.limits().data_queue_bytes_max };
        let StreamRoute { alias, carries, local, .. } = route;
        let is_data = carries.kind == TrackKind::Data;
        for target in local {
            let link = target.subscriber.link;
            if let Some(header) = part.begins
                && let Some(reason) = core.offer_stream_object(*alias, carries, target, &header)
                && reason.ends_stream()
                && let Some(connection) = connections.get_mut(link as usize).and_then(Option::as_mut)
            {
                // The ladder refuses the stream's whole layer: what waits of it makes room at once.
                connection.drop_layer(key, reason, &mut core.ledger);
            }
            if target.skips {
                continue;
            }
            let Some(connection) = connections.get_mut(link as usize).and_then(Option::as_mut) else {
                core.ledger.drop(DropReason::Gone, u64::from(part.begins.is_some()));
                continue;
            };
            push_part(connection, key, part, arrived, bounds, &mut core.ledger);
            connection.urgent = true;
            if !connection.dirty {
                connection.dirty = true;
                dirty.push(link);
            }
        }
        if is_data {
            self.hold_if_full(key, arrived);
        }
    }

    fn finish_stream_here(&mut self, key: StreamKey) {
        let Some(route) = self.streams.remove(&key) else { return };
        for target in &route.local {
            let link = target.subscriber.link;
            let Some(connection) = self.connections.get_mut(link as usize).and_then(Option::as_mut) else { continue };
            if let Some((_, egress)) = connection.egress.iter_mut().find(|(other, _)| *other == key) {
                egress.finish();
            }
            self.touch(link);
        }
    }
}

fn deliver(
    connections: &mut [Option<Box<Connection>>],
    dirty: &mut Vec<u32>,
    offer: &Offer,
    wire: &Bytes,
    queue_bytes_max: usize,
    ledger: &mut Ledger,
) {
    let Some(connection) = connections.get_mut(offer.link as usize).and_then(Option::as_mut) else {
        return ledger.drop(DropReason::Gone, 1);
    };
    connection.offer_datagram(offer, wire, queue_bytes_max, ledger);
    connection.urgent |= !offer.is_audio();
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(offer.link);
    }
}

fn is_picture(route: &StreamRoute) -> bool {
    matches!(route.carries.kind, TrackKind::Video | TrackKind::Screen)
}

/// Bytes that may wait for one subscriber.
#[derive(Clone, Copy)]
struct Bounds {
    /// Of all streams of media.
    media: usize,
    /// Of one stream of data.
    data: usize,
}

/// Queues a part. When too much media waits, streams are given up until it fits: those of older groups first, of these the
/// highest layer, and of several the oldest. The newest group's base layer is worth most.
fn push_part(
    connection: &mut Connection,
    key: StreamKey,
    part: &StreamPart,
    arrived: Instant,
    bounds: Bounds,
    ledger: &mut Ledger,
) {
    let Connection { egress, quic, .. } = connection;
    let Some(at) = egress.iter().position(|(other, _)| *other == key) else {
        // It began before the subscriber's connection took this place, or was stopped by the subscriber.
        return ledger.drop(DropReason::Gone, u64::from(part.begins.is_some()));
    };
    if egress[at].1.is_reliable() {
        if egress[at].1.queue.bytes() + part.wire.len() > bounds.data {
            egress[at].1.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, ledger);
        }
        return egress[at].1.push(part, arrived, ledger);
    }
    let media = |egress: &Egress| if egress.is_reliable() { 0 } else { egress.queue.bytes() };
    let mut waiting: usize = egress.iter().map(|(_, egress)| media(egress)).sum();
    while waiting + part.wire.len() > bounds.media
        && let Some(worst) = worth_least(egress)
    {
        let (_, worst) = &mut egress[worst];
        waiting -= worst.queue.bytes();
        worst.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, ledger);
    }
    egress[at].1.push(part, arrived, ledger);
}

/// The stream to give up next, of those of media with something waiting.
pub(crate) fn worth_least(egress: &[(StreamKey, Egress)]) -> Option<usize> {
    let newest = |alias| egress.iter().filter(|(_, other)| other.alias == alias).map(|(_, other)| other.group).max();
    let waiting =
        egress.iter().enumerate().filter(|(_, (_, egress))| !egress.is_reliable() && egress.queue.bytes() > 0);
    waiting
        .max_by_key(|(at, (_, egress))| {
            let is_old = newest(egress.alias).is_some_and(|newest| newest > egress.group);
            (is_old, egress.temporal_layer, std::cmp::Reverse(*at))
        })
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supernode_proto::object::{Hop, TrackAlias};

    use super::*;
    use crate::core::{ShardId, forward::Subscriber};

    /// A stream with so many bytes waiting.
    fn egress(
        (alias, kind): (u64, TrackKind),
        group: u64,
        temporal_layer: u8,
        bytes: usize,
        ledger: &mut Ledger,
    ) -> (StreamKey, Egress) {
        let alias = TrackAlias::new(alias).expect("small");
        let header = StreamHeader { hop: Hop { alias, priority: 0, ttl_ms: 5_000 }, group, temporal_layer };
        let subscriber = Subscriber {
            link: 0,
            temporal_layer_max: 7,
            spatial_layer_max: 7,
            age_max: Duration::from_secs(5),
            focus: false,
            speakers_max: 0,
            member: 1,
        };
        let mut egress = Egress::new(&header, Bytes::new(), kind, &subscriber);
        if bytes > 0 {
            let part = StreamPart { wire: vec![0; bytes].into(), begins: None, ends: false };
            egress.push(&part, Instant::now(), ledger);
        }
        (StreamKey { shard: ShardId(0), number: 0 }, egress)
    }

    //
    #[test]
    fn streams_are_given_up_from_older_groups_and_higher_layers_on_and_data_never() {
        let mut ledger = Ledger::default();
        let held = &mut ledger;
        let (video, screen, data) = ((1, TrackKind::Video), (2, TrackKind::Screen), (3, TrackKind::Data));
        let mut waiting = vec![
            egress(data, 1, 0, 100, held),
            egress(video, 7, 0, 100, held),
            egress(video, 8, 0, 100, held),
            egress(video, 6, 0, 100, held),
            egress(video, 7, 2, 100, held),
            egress(video, 8, 1, 100, held),
            egress(screen, 1, 0, 100, held),
            egress(screen, 1, 2, 0, held),
            egress(screen, 1, 1, 100, held),
        ];
        let mut order = Vec::new();
        while let Some(worst) = worth_least(&waiting) {
            let (_, given_up) = &mut waiting[worst];
            order.push((given_up.alias.value(), given_up.group, given_up.temporal_layer));
            given_up.queue.abandon(DropReason::QueueFull, &mut ledger);
        }
        let older = [(1, 7, 2), (1, 7, 0), (1, 6, 0)];
        let newest = [(1, 8, 1), (2, 1, 1), (1, 8, 0), (2, 1, 0)];
        assert_eq!(order, [&older[..], &newest[..]].concat());
        assert_eq!(ledger.queued_bytes, 3_000, "only the data waits, with its header");
    }
}
