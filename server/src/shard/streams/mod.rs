//! Media streams on their way through a shard: from a publisher's connection, or from another shard, to its subscribers'.

pub(crate) mod egress;

mod from_nodes;
mod hold;
mod late;

use std::{collections::HashMap, time::Instant};

use bytes::Bytes;
use foldhash::fast::FixedState;
use quinn_proto::StreamId;
use supernode_proto::{
    close::StreamCode,
    control::TrackKind,
    object::{StreamHeader, TrackAlias},
};

use self::{egress::Egress, from_nodes::Passing, hold::Holds};
pub(crate) use self::{from_nodes::deliver_datagram, late::GRACE};
use super::{
    connections::{
        Connections,
        connection::{Connection, Finished, Ingress},
    },
    figures::census::Census,
    post::{
        Post,
        inbox::{Letter, MediaMail},
    },
};
use crate::core::{
    Address, ShardCore, StreamKey,
    fan_out::StreamRoute,
    ledger::{DropReason, Ledger, RefuseReason},
    stream::StreamPart,
};

/// Parts of one chunk are few: an object's header and body, rarely several small objects.
const PARTS_AT_ONCE: usize = 8;

/// The streams that go through a shard.
pub(crate) struct Streams {
    at: Address,
    /// How many its own publishers have begun.
    begun: u64,
    routes: HashMap<StreamKey, StreamRoute, FixedState>,
    /// Those of other nodes that another shard gathers. Apart, because it may pass one back to subscribers here.
    passing: HashMap<StreamKey, Passing, FixedState>,
    /// Streams that were aborted before their beginning came: letters overtake media.
    aborted_early: Vec<StreamKey>,
    holds: Holds,
    /// Subscribers that lost the newest base layer of a picture since packets were last built.
    lost_pictures: Vec<(u32, TrackAlias)>,
}

/// What streams go through: the core knows to whom, and they go to connections here and by post to other shards.
pub(crate) struct Context<'a> {
    pub(crate) core: &'a mut ShardCore,
    pub(crate) connections: &'a mut Connections,
    pub(crate) post: &'a mut Post,
}

impl Streams {
    /// None yet.
    pub(crate) fn new(at: Address) -> Self {
        Self {
            at,
            begun: 0,
            routes: HashMap::default(),
            passing: HashMap::default(),
            aborted_early: Vec::new(),
            holds: Holds::default(),
            lost_pictures: Vec::new(),
        }
    }

    /// A publisher here begins a stream: its name.
    pub(crate) fn begin(&mut self) -> StreamKey {
        self.begun += 1;
        StreamKey { at: self.at, number: self.begun }
    }

    /// Media of streams from another shard; datagrams and packets are none.
    pub(crate) fn handle_mail(&mut self, mail: MediaMail, cx: &mut Context<'_>, now: Instant) {
        match mail {
            MediaMail::StreamOpen { key, header, wire } => {
                let aborted = self.aborted_early.contains(&key);
                if !aborted && let Some(route) = cx.core.route_remote_stream(&header) {
                    self.open(key, route, &header, &wire, cx);
                }
            }
            MediaMail::StreamPart { key, part, arrived } => self.pass_here(key, &part, arrived, cx),
            MediaMail::StreamEnd { key } => self.finish(key, cx),
            MediaMail::StreamSeen { key } => self.answer_seen(key, cx.post),
            MediaMail::StreamJoin { stream, session } => self.join_here(*stream, session, cx, now),
            MediaMail::Datagram { .. } | MediaMail::Packet(_) => {}
        }
    }

    /// Another shard's letter says that a stream ends before its last byte.
    pub(crate) fn handle_aborted(&mut self, key: StreamKey, code: StreamCode, cx: &mut Context<'_>) {
        if !self.routes.contains_key(&key) {
            self.aborted_early.push(key);
        }
        self.abort(key, code, cx);
    }

    /// No media waits any more. The beginning of a stream was put before its abortion: so none is still to come.
    pub(crate) fn handle_all_seen(&mut self) {
        self.aborted_early.clear();
    }

    /// Forwards bytes of a publisher's stream.
    ///
    /// # Errors
    /// The code to stop the stream with.
    pub(crate) fn forward(
        &mut self,
        link: u32,
        ingress: &mut Ingress,
        chunk: Bytes,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<(), StreamCode> {
        let bytes = chunk.len();
        let mut parts = Vec::with_capacity(PARTS_AT_ONCE);
        let opened = ingress.parser.parse(chunk, &mut parts).map_err(|_| {
            cx.core.ledger.refuse(RefuseReason::Malformed);
            StreamCode::MALFORMED
        })?;
        let mut parts = parts.into_iter();
        if let Some(header) = opened {
            let route = cx.core.route_stream(link, &header).map_err(|_| StreamCode::UNKNOWN_TRACK)?;
            // The header's own bytes are the first part.
            let wire = parts.next().map(|part| part.wire).unwrap_or_default();
            ingress.kind = route.carries.kind;
            if is_picture(&route) {
                cx.core.keep_stream(ingress.key, &header, &wire);
            }
            self.open_further(ingress.key, route, &header, &wire, cx);
        }
        let begins = || parts.as_slice().iter().filter_map(|part| part.begins);
        let told = begins().any(|header| header.flags.activity() > 0);
        if told && self.routes.get(&ingress.key).is_some_and(|route| !route.carries.activity) {
            cx.core.ledger.refuse(RefuseReason::Malformed);
            return Err(StreamCode::MALFORMED);
        }
        let objects = begins().count() as u64;
        cx.core.charge_stream(link, ingress.kind, objects, bytes, now).map_err(|_| StreamCode::RATE_EXCEEDED)?;
        for part in parts {
            self.keep_part(ingress.key, &part, cx.core);
            self.pass_on(ingress.key, &part, cx, now);
            self.pass_here(ingress.key, &part, now, cx);
        }
        if ingress.kind == TrackKind::Data {
            self.hold_until_seen(ingress, bytes, cx);
        }
        Ok(())
    }

    /// A stream has come to its end.
    pub(crate) fn finish(&mut self, key: StreamKey, cx: &mut Context<'_>) {
        self.holds.forget(key);
        let Some(route) = self.routes.get(&key) else { return };
        let remote = route.remote.clone();
        cx.core.cache.finish(route.alias, key);
        for other in remote {
            if !cx.post.put_media(other.at, MediaMail::StreamEnd { key }) {
                cx.post.put_letter(other.at, Letter::StreamAborted(key, StreamCode::OVERLOADED));
            }
        }
        self.finish_here(key, cx.connections);
    }

    /// A publisher has given a stream up, or is gone, or it was lost on its way here.
    pub(crate) fn abort(&mut self, key: StreamKey, code: StreamCode, cx: &mut Context<'_>) {
        self.holds.forget(key);
        let Some(route) = self.routes.get(&key) else { return };
        let remote = route.remote.clone();
        cx.core.cache.abort(route.alias, key);
        for other in remote {
            cx.post.put_letter(other.at, Letter::StreamAborted(key, code));
        }
        self.abort_here(key, code, cx);
    }

    /// Writes what a connection's media streams have waiting, and forgets those that are over.
    pub(crate) fn flush(&mut self, link: u32, connection: &mut Connection, core: &mut ShardCore, now: Instant) {
        if connection.egress.is_empty() {
            return;
        }
        let streams_max = connection.widen(core.directory().windows(), core.limits().relay_windows_bytes_max);
        let Connection { egress, quic, finished, .. } = connection;
        egress.retain_mut(|(_, egress)| {
            let was_abandoned = egress.is_abandoned();
            let over = egress.flush(quic, streams_max, now, &mut core.ledger);
            if !was_abandoned && egress.is_expired() && egress.temporal_layer == 0 {
                self.lost_pictures.push((link, egress.alias));
            }
            if let Some(id) = egress.written().filter(|_| over) {
                finished.push(Finished { id, alias: egress.alias, track_ended: false });
            }
            !over
        });
    }

    /// Subscribers that lost the newest base layer of a picture since the last call.
    pub(crate) fn take_lost_pictures(&mut self) -> Vec<(u32, TrackAlias)> {
        std::mem::take(&mut self.lost_pictures)
    }

    /// Whether a publisher's stream must not be read now; notes where to go on.
    pub(crate) fn postpones(&mut self, key: StreamKey, link: u32, id: StreamId) -> bool {
        self.holds.postpones(key, link, id)
    }

    /// Adds what is on its way.
    pub(crate) fn count(&self, census: &mut Census) {
        census.streams = self.routes.len() + self.passing.len();
        census.aborted_early = self.aborted_early.len();
        (census.holding, census.held) = self.holds.len();
    }

    /// Those that are on their way.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> Vec<StreamKey> {
        self.routes.keys().copied().collect()
    }

    fn pass_on(&mut self, key: StreamKey, part: &StreamPart, cx: &mut Context<'_>, arrived: Instant) {
        let Some(StreamRoute { remote, lost, .. }) = self.routes.get_mut(&key) else { return };
        remote.retain(|other| {
            let taken = cx.post.put_media(other.at, MediaMail::StreamPart { key, part: part.clone(), arrived });
            if !taken {
                cx.post.put_letter(other.at, Letter::StreamAborted(key, StreamCode::OVERLOADED));
                lost.push(*other);
            }
            taken
        });
        if part.begins.is_some() {
            cx.core.count_lost(lost);
        }
    }

    /// Opens a stream that another shard passes on. Of one that this shard gathers the newest group is kept here too.
    fn open(&mut self, key: StreamKey, route: StreamRoute, header: &StreamHeader, wire: &Bytes, cx: &mut Context<'_>) {
        if !route.gathered {
            return self.open_here(key, route, header, wire, cx.connections);
        }
        if is_picture(&route) {
            cx.core.keep_stream(key, header, wire);
        }
        self.open_further(key, route, header, wire, cx);
    }

    /// Opens a stream here and on the other shards that get it.
    fn open_further(
        &mut self,
        key: StreamKey,
        mut route: StreamRoute,
        header: &StreamHeader,
        wire: &Bytes,
        cx: &mut Context<'_>,
    ) {
        let header = *header;
        let (taken, lost) = route
            .remote
            .drain(..)
            .partition(|other| cx.post.put_media(other.at, MediaMail::StreamOpen { key, header, wire: wire.clone() }));
        route.remote = taken;
        route.lost = lost;
        self.open_here(key, route, &header, wire, cx.connections);
    }

    fn open_here(
        &mut self,
        key: StreamKey,
        route: StreamRoute,
        header: &StreamHeader,
        wire: &Bytes,
        connections: &mut Connections,
    ) {
        for target in &route.local {
            let Some(connection) = connections.get_mut(target.subscriber.link) else { continue };
            let egress = Egress::new(header, wire.clone(), route.carries.kind, &target.subscriber, &connection.codec);
            connection.egress.push((key, egress));
        }
        self.routes.insert(key, route);
    }

    fn pass_here(&mut self, key: StreamKey, part: &StreamPart, arrived: Instant, cx: &mut Context<'_>) {
        let Context { core, connections, .. } = &mut *cx;
        let Some(route) = self.routes.get_mut(&key) else { return };
        let bounds = Bounds { media: core.limits().queue_bytes_max, data: core.limits().data_queue_bytes_max };
        let StreamRoute { alias, carries, local, gathered, .. } = route;
        let (is_data, gathered) = (carries.kind == TrackKind::Data, *gathered);
        for target in local {
            let link = target.subscriber.link;
            if let Some(header) = part.begins
                && let Some(reason) = core.offer_stream_object(*alias, carries, target, &header)
                && reason.ends_stream()
                && let Some(connection) = connections.get_mut(link)
            {
                // The ladder refuses the stream's whole layer: what waits of it makes room at once.
                connection.drop_layer(key, reason, &mut core.ledger);
            }
            if target.skips {
                continue;
            }
            let Some(connection) = connections.get_to_send(link) else {
                core.ledger.drop(DropReason::Gone, u64::from(part.begins.is_some()));
                continue;
            };
            push_part(connection, key, part, arrived, bounds, &mut core.ledger);
        }
        if is_data {
            self.hold_if_full(key, cx, arrived);
        }
        if gathered {
            self.keep_part(key, part, cx.core);
            self.pass_on(key, part, cx, arrived);
        }
    }

    fn finish_here(&mut self, key: StreamKey, connections: &mut Connections) {
        let Some(route) = self.routes.remove(&key) else { return };
        for target in &route.local {
            let link = target.subscriber.link;
            let Some(connection) = connections.get_mut(link) else { continue };
            if let Some((_, egress)) = connection.egress.iter_mut().find(|(other, _)| *other == key) {
                egress.finish();
            }
            connections.touch(link);
        }
    }

    /// Ends a stream before its last byte for this shard's subscribers.
    fn abort_here(&mut self, key: StreamKey, code: StreamCode, cx: &mut Context<'_>) {
        let Some(route) = self.routes.remove(&key) else { return };
        for target in &route.local {
            let link = target.subscriber.link;
            let Some(connection) = cx.connections.get_mut(link) else { continue };
            if let Some(position) = connection.egress.iter().position(|(other, _)| *other == key) {
                let (_, mut egress) = connection.egress.remove(position);
                egress.abandon(&mut connection.quic, code, DropReason::Cancelled, &mut cx.core.ledger);
            }
            cx.connections.touch(link);
        }
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
    make_room(connection, part.wire.len(), bounds.media, ledger);
    connection.egress[at].1.push(part, arrived, ledger);
}

/// Gives streams of media up until so many bytes more may wait.
fn make_room(connection: &mut Connection, bytes: usize, bytes_max: usize, ledger: &mut Ledger) {
    let Connection { egress, quic, .. } = connection;
    let media = |egress: &Egress| if egress.is_reliable() { 0 } else { egress.queue.bytes() };
    let mut waiting: usize = egress.iter().map(|(_, egress)| media(egress)).sum();
    while waiting + bytes > bytes_max
        && let Some(worst) = worth_least(egress)
    {
        let (_, worst) = &mut egress[worst];
        waiting -= worst.queue.bytes();
        worst.abandon(quic, StreamCode::LAGGED, DropReason::QueueFull, ledger);
    }
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
    use crate::shard::quic::link_codec::LinkCodec;

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
        let mut egress = Egress::new(&header, Bytes::new(), kind, &subscriber, &LinkCodec::Native);
        if bytes > 0 {
            let part = StreamPart { wire: vec![0; bytes].into(), begins: None, ends: false };
            egress.push(&part, Instant::now(), ledger);
        }
        (StreamKey { at: Address::local(ShardId(0)), number: 0 }, egress)
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
