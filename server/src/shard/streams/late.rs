//! Who comes late: the newest group of a track, sent as far as it has come, and then as it goes on.

use std::time::{Duration, Instant};

use supernode_proto::object::TrackAlias;

use super::{Context, Streams, egress::Egress, is_picture, make_room};
use crate::{
    core::{
        Address, SessionId, ShardCore, StreamKey,
        fan_out::{StreamRoute, StreamTarget},
        forward::{Carries, Demand, Remote},
        group_cache::CachedStream,
        stream::StreamPart,
    },
    shard::post::{ForNode, inbox::MediaMail},
};

/// How much longer a group that is sent to somebody who came late may wait than others: it comes all at once, and takes
/// a path of 4 Mbit/s a second.
pub(crate) const GRACE: Duration = Duration::from_millis(750);

impl Streams {
    /// On the publisher's shard, or the one that gathers a track of another node: sends what there is of the newest group to one
    /// subscriber, wherever it is, by its shard or the one that gathers for its node.
    pub(crate) fn send_newest_group(
        &mut self,
        (session, via): (SessionId, Address),
        alias: TrackAlias,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let streams: Vec<CachedStream<StreamKey>> = cx.core.cache.newest(alias).map(<[_]>::to_vec).unwrap_or_default();
        cx.core.ledger.late_joiners += 1;
        for stream in streams {
            if session.at == self.at {
                self.join_here(stream, session, cx, now);
                continue;
            }
            let key = stream.key;
            if via.node != self.at.node {
                cx.post.put_for_node(via, ForNode::Join(Box::new(stream)));
                self.add_remote(key, via);
                continue;
            }
            // A full inbox loses it, as a full path would; the subscriber then waits for the next group.
            if cx.post.put_media(session.at, MediaMail::StreamJoin { stream: Box::new(stream), session }) {
                self.add_remote(key, session.at);
            }
        }
    }

    /// What follows of a stream goes there as well.
    fn add_remote(&mut self, key: StreamKey, at: Address) {
        if let Some(route) = self.routes.get_mut(&key)
            && route.remote.iter().chain(&route.lost).all(|other| other.at != at)
        {
            route.remote.push(Remote { at, demand: Demand { subscribers: 1, ..Demand::default() } });
        }
    }

    /// On the subscriber's shard: a stream from its beginning on. What follows comes as for everybody else.
    pub(super) fn join_here(
        &mut self,
        stream: CachedStream<StreamKey>,
        session: SessionId,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        let CachedStream { key, header, wire, parts, ended } = stream;
        let Context { core, connections, .. } = cx;
        let alias = header.hop.alias;
        let Some(track) = core.tracks.track(alias).filter(|_| core.is_live(session)) else { return };
        let carries: Carries = track.carries;
        let Some(subscriber) = track.local.iter().find(|subscriber| subscriber.link == session.link).copied() else {
            return;
        };
        let Some(connection) = connections.get_mut(session.link) else { return };
        // It began after the subscription did, and is on its way already.
        if connection.egress.iter().any(|(other, egress)| *other == key && !egress.is_abandoned()) {
            return;
        }
        connection.egress.retain(|(other, _)| *other != key);
        let mut egress = Egress::new(&header, wire, carries.kind, &subscriber, &connection.codec);
        let mut target = StreamTarget::new(subscriber);
        for part in &parts {
            if let Some(object) = part.begins {
                core.offer_stream_object(alias, &carries, &mut target, &object);
            }
            if !target.skips {
                egress.push(part, now + GRACE, &mut core.ledger);
            }
        }
        if ended {
            egress.finish();
        } else {
            let route = self.routes.entry(key).or_insert_with(|| StreamRoute::empty(alias, carries));
            route.local.retain(|other| other.subscriber.link != session.link);
            route.local.push(target);
        }
        connection.egress.push((key, egress));
        // It came all at once, and so may those of many pictures.
        make_room(connection, 0, core.limits().queue_bytes_max, &mut core.ledger);
        connections.touch(session.link);
    }

    /// On the publisher's shard: keeps what came, for those who come late.
    pub(super) fn keep_part(&self, key: StreamKey, part: &StreamPart, core: &mut ShardCore) {
        let Some(route) = self.routes.get(&key) else { return };
        if is_picture(route) {
            core.keep_part(route.alias, key, part);
        }
    }
}
