//! Publishing and subscribing: the cold path that sets the hot one up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dashmap::Entry;
use rand::{Rng, RngExt};
use supernode_proto::{
    close::StreamCode,
    control::{
        KeyframeRequested, PublishTrack, RefusalReason, Subscribe, TrackDemand, TrackEnded, TrackKind, TrackPublished,
        relay_message::Body,
    },
    identity::RoomId,
    limits as wire,
    object::{Layer, TrackAlias},
};

use super::{
    ControlMail, MemberId, Outbox, SessionId, ShardCore, ShardId,
    control::Refusal,
    directory::TrackEntry,
    forward::{Remote, Subscriber},
    rooms,
};

/// Aliases are drawn from four-byte varints: short on the wire, and they tell nobody how many tracks there are.
const ALIAS_BITS: u32 = 30;

impl ShardCore {
    pub(crate) fn publish(
        &mut self,
        link: u32,
        request: u64,
        wanted: PublishTrack,
        rng: &mut dyn Rng,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let directory = self.directory.clone();
        let session = self.session_at(link)?;
        let room = rooms::member_of(session, &wanted.room)?;
        let kind = match TrackKind::try_from(wanted.kind) {
            Ok(TrackKind::Unspecified) | Err(_) => return Err(Refusal::field("kind", wanted.kind as u64, 4)),
            Ok(kind) => kind,
        };
        Refusal::check_len("label", wanted.label.len(), wire::TRACK_LABEL_BYTES_MAX)?;
        let bound = directory.limits.tracks_max;
        if session.published.len() >= bound {
            return Err(Refusal::limit("tracks_max", session.published.len() as u64, bound as u64));
        }
        let member = session.rooms.get(&room).copied().unwrap_or_default();
        let entry = TrackEntry { room, member, publisher: session.id, kind, label: wanted.label };
        let alias = loop {
            let drawn = TrackAlias::new(u64::from(rng.random::<u32>() >> (32 - ALIAS_BITS)));
            let Some(alias) = drawn else { continue };
            if let Entry::Vacant(vacant) = directory.tracks.entry(alias) {
                vacant.insert(entry.clone());
                break alias;
            }
        };
        let id = session.id;
        let announced = rooms::announcement(&room, member, alias, &entry);
        let entered = directory.rooms.get_mut(&room).is_some_and(|mut room| {
            let Some(own) = room.member_of(member, id) else { return false };
            own.tracks.push(alias);
            for other in room.members.values().filter(|other| other.session != id) {
                outbox.event(other.session, announced.clone());
            }
            true
        });
        if !entered {
            directory.tracks.remove(&alias);
            return Err(Refusal::of(RefusalReason::UnknownRoom));
        }
        session.published.push(alias);
        self.tracks.publish(alias, kind, room, link);
        outbox.reply(id, request, Body::TrackPublished(TrackPublished { alias: alias.value() }));
        Ok(())
    }

    pub(crate) fn unpublish(&mut self, link: u32, alias: u64, outbox: &mut Outbox) -> Result<(), Refusal> {
        let alias = TrackAlias::new(alias).ok_or(Refusal::of(RefusalReason::UnknownTrack))?;
        let session = self.session_at(link)?;
        if !session.published.contains(&alias) {
            return Err(Refusal::of(RefusalReason::UnknownTrack));
        }
        session.published.retain(|own| *own != alias);
        let directory = self.directory.clone();
        if let Some((_, entry)) = directory.tracks.remove(&alias) {
            if let Some(mut room) = directory.rooms.get_mut(&entry.room)
                && let Some(own) = room.member_of(entry.member, entry.publisher)
            {
                own.tracks.retain(|own| *own != alias);
            }
            self.end_track(alias, &entry.room, outbox);
        }
        Ok(())
    }

    /// A member has left: its tracks end, here if this is its shard and everywhere else by mail.
    pub(crate) fn end_tracks_of(&mut self, room: &RoomId, tracks: &[TrackAlias], outbox: &mut Outbox) {
        for alias in tracks {
            if self.directory.tracks.remove(alias).is_some() {
                self.end_track(*alias, room, outbox);
            }
        }
    }

    fn end_track(&mut self, alias: TrackAlias, room: &RoomId, outbox: &mut Outbox) {
        if let Some(room_entry) = self.directory.rooms.get(room) {
            let ended = TrackEnded { room: Bytes::copy_from_slice(&room.0), alias: alias.value() };
            for member in room_entry.members.values() {
                outbox.event(member.session, Body::TrackEnded(ended.clone()));
            }
        }
        outbox.broadcast(&ControlMail::TrackEnded { alias });
    }

    pub(crate) fn subscribe(
        &mut self,
        link: u32,
        request: u64,
        wanted: &Subscribe,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::of(RefusalReason::UnknownTrack);
        let directory = self.directory.clone();
        let session = self.session_at(link)?;
        let alias = TrackAlias::new(wanted.alias).ok_or_else(unknown)?;
        let (room, publisher, kind) = {
            let entry = directory.tracks.get(&alias).ok_or_else(unknown)?;
            (entry.room, entry.publisher, entry.kind)
        };
        // Tracks of rooms one is not in are not told apart from tracks that are not there.
        if !session.rooms.contains_key(&room) || publisher == session.id {
            return Err(unknown());
        }
        let layers = u64::from(wanted.temporal_layer_max.max(wanted.spatial_layer_max));
        if layers > u64::from(Layer::MAX) {
            return Err(Refusal::field("layer_max", layers, u64::from(Layer::MAX)));
        }
        if u64::from(wanted.max_age_ms) > u64::from(wire::OBJECT_TTL_MS_MAX) {
            return Err(Refusal::field("max_age_ms", wanted.max_age_ms.into(), wire::OBJECT_TTL_MS_MAX.into()));
        }
        let bound = directory.limits.subscriptions_max;
        let again = session.subscribed.iter().any(|(subscribed, _)| *subscribed == alias);
        if !again && session.subscribed.len() >= bound {
            return Err(Refusal::limit("subscriptions_max", session.subscribed.len() as u64, bound as u64));
        }
        if !again {
            session.subscribed.push((alias, room));
        }
        let id = session.id;
        let age_max = match wanted.max_age_ms {
            0 => directory.limits.queue_age_max,
            ms => Duration::from_millis(ms.into()),
        };
        let subscriber = Subscriber {
            link,
            temporal_layer_max: wanted.temporal_layer_max as u8,
            spatial_layer_max: wanted.spatial_layer_max as u8,
            age_max,
        };
        let subscribers = self.tracks.subscribe(alias, kind, room, subscriber);
        outbox.done(id, request);
        let shard = self.shard;
        outbox.mail(publisher.shard, ControlMail::Interest { alias, shard, subscribers, fresh: true });
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, link: u32, alias: u64, outbox: &mut Outbox) -> Result<(), Refusal> {
        let session = self.session_at(link)?;
        let position = session.subscribed.iter().position(|(subscribed, _)| subscribed.value() == alias);
        let position = position.ok_or(Refusal::of(RefusalReason::UnknownTrack))?;
        let (alias, _) = session.subscribed.swap_remove(position);
        self.drop_subscription(link, alias, outbox);
        Ok(())
    }

    /// The session's list no longer has it; the table and the publisher's shard must not either.
    pub(crate) fn drop_subscription(&mut self, link: u32, alias: TrackAlias, outbox: &mut Outbox) {
        let subscribers = self.tracks.unsubscribe(alias, link);
        self.ended_subscriptions.push((link, alias, StreamCode::UNSUBSCRIBED));
        let publisher = self.directory.tracks.get(&alias).map(|entry| entry.publisher);
        if let Some(publisher) = publisher {
            let shard = self.shard;
            outbox.mail(publisher.shard, ControlMail::Interest { alias, shard, subscribers, fresh: false });
        }
    }

    /// A track is no more: nobody here subscribes to it.
    pub(crate) fn track_ended(&mut self, alias: TrackAlias) {
        let Some(track) = self.tracks.end(alias) else { return };
        self.keyframes.remove(&alias);
        for subscriber in track.local {
            if let Some(session) = self.session_mut(subscriber.link) {
                session.subscribed.retain(|(subscribed, _)| *subscribed != alias);
            }
            self.ended_subscriptions.push((subscriber.link, alias, StreamCode::TRACK_ENDED));
        }
    }

    pub(crate) fn request_keyframe(&mut self, link: u32, alias: u64, outbox: &mut Outbox) -> Result<(), Refusal> {
        let unknown = || Refusal::of(RefusalReason::UnknownTrack);
        let session = self.session_at(link)?;
        let position = session.subscribed.iter().position(|(subscribed, _)| subscribed.value() == alias);
        let (alias, _) = session.subscribed[position.ok_or_else(unknown)?];
        let publisher = self.directory.tracks.get(&alias).map(|entry| entry.publisher).ok_or_else(unknown)?;
        outbox.mail(publisher.shard, ControlMail::Keyframe { alias });
        Ok(())
    }

    /// On the publisher's shard: another shard's, or this one's, number of subscribers has changed.
    pub(crate) fn interest(
        &mut self,
        alias: TrackAlias,
        from: ShardId,
        subscribers: u32,
        fresh: bool,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        // Local subscribers are in the table already.
        let remote = Remote { shard: from, subscribers: if from == self.shard { 0 } else { subscribers } };
        let Some(track) = self.tracks.set_remote(alias, remote) else {
            // Its publisher left while the mail was on its way.
            return outbox.mail(from, ControlMail::TrackEnded { alias });
        };
        let (demand, link, visual) =
            (track.demand(), track.publisher, matches!(track.kind, TrackKind::Video | TrackKind::Screen));
        let Some(publisher) = link.and_then(|link| self.session_mut(link)).map(|session| session.id) else { return };
        outbox.event(publisher, Body::TrackDemand(TrackDemand { alias: alias.value(), subscribers: demand }));
        // The first one is news enough for the publisher to start a group.
        if fresh && visual && demand > 1 {
            self.keyframe(alias, now, outbox);
        }
    }

    /// On the publisher's shard: passes a wish for a key frame on, at most once in the interval.
    pub(crate) fn keyframe(&mut self, alias: TrackAlias, now: Instant, outbox: &mut Outbox) {
        let Some(link) = self.tracks.track(alias).and_then(|track| track.publisher) else { return };
        let Some(publisher) = self.session_mut(link).map(|session| session.id) else { return };
        let interval = self.directory.limits.keyframe_interval;
        let recent = self.keyframes.get(&alias).is_some_and(|asked| now.saturating_duration_since(*asked) < interval);
        if !recent {
            self.keyframes.insert(alias, now);
            outbox.event(publisher, Body::KeyframeRequested(KeyframeRequested { alias: alias.value() }));
        }
    }

    /// Takes a session out of a room: what it sends and what it gets there ends now.
    pub(crate) fn evict(&mut self, link: u32, room: &RoomId, outbox: &mut Outbox) -> Option<MemberId> {
        let session = self.session_mut(link)?;
        let member = session.rooms.remove(room)?;
        let mut ended = Vec::new();
        session.subscribed.retain(|(alias, of)| {
            if of == room {
                ended.push(*alias);
            }
            of != room
        });
        for alias in ended {
            self.drop_subscription(link, alias, outbox);
        }
        let own: Vec<TrackAlias> = self.session_mut(link)?.published.clone();
        let (gone, kept): (Vec<_>, Vec<_>) =
            own.into_iter().partition(|alias| self.tracks.track(*alias).is_none_or(|track| track.room == *room));
        self.session_mut(link)?.published = kept;
        // The directory's entries and the other shards are the business of whoever took the member out of the room.
        for alias in gone {
            self.track_ended(alias);
        }
        Some(member)
    }

    /// Which session a link belongs to, for refusals that need its name.
    pub(crate) fn id_of(&self, link: u32) -> Option<SessionId> {
        self.sessions.get(link as usize)?.as_ref().map(|session| session.id)
    }
}
