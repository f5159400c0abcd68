//! Publishing and subscribing: the cold path that sets the hot one up.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{Rng, RngExt};
use supernode_proto::{
    close::StreamCode,
    control::{
        KeyframeRequested, PublishTrack, RefusalReason, RelabelTrack, Rung, Subscribe, TrackEnded, TrackKind,
        TrackPublished, relay_message::Body,
    },
    identity::RoomId,
    limits as wire,
    object::{Layer, TrackAlias},
};

use super::{
    asks::{Asked, Publishing},
    crossings::nothing,
    directory::TrackEntry,
    rooms,
};
use crate::core::{
    Address, ControlMail, Errand, MemberId, NodeId, Outbox, SessionId, ShardCore,
    control::Refusal,
    forwarding::forward::{Carries, Demand, Remote, Subscriber},
    receiver::{Change, ladder::last_rung},
    session::{SUBSCRIPTION_BYTES, Subscribed, TRACK_BYTES},
    timers::Due,
};

/// Random bits of an alias: on the only node it is a four-byte varint, short on the wire, and tells nobody how many tracks
/// there are.
const ALIAS_BITS: u32 = 30;

/// An alias that may be taken already, but by no other node: the node's number stands above the random bits.
fn draw_alias(node: NodeId, rng: &mut dyn Rng) -> Option<TrackAlias> {
    let random = u64::from(rng.random::<u32>() >> (32 - ALIAS_BITS));
    TrackAlias::new(u64::from(node.0) << ALIAS_BITS | random)
}

/// The node that drew an alias: its publisher's.
pub(crate) fn node_of(alias: TrackAlias) -> Option<NodeId> {
    u16::try_from(alias.value() >> ALIAS_BITS).ok().map(NodeId)
}

/// When a track's publisher was asked for a key frame last.
#[derive(Debug)]
pub(crate) struct KeyframeAsked {
    at: Instant,
    /// Somebody has wished for one since, and no group has begun since then.
    again: bool,
    /// Whether a deadline is set for that.
    scheduled: bool,
}

impl ShardCore {
    pub(crate) fn publish(
        &mut self,
        link: u32,
        request: u64,
        wanted: PublishTrack,
        rng: &mut dyn Rng,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let (directory, node) = (self.directory.clone(), self.at.node);
        let session = self.session_at(link)?;
        let room = rooms::member_of(session, &wanted.room)?;
        let kind = match TrackKind::try_from(wanted.kind) {
            Ok(TrackKind::Unspecified) | Err(_) => return Err(Refusal::field("kind", wanted.kind as u64, 4)),
            Ok(kind) => kind,
        };
        Refusal::check_len("label", wanted.label.len(), wire::TRACK_LABEL_BYTES_MAX)?;
        let bound = session.limits(&directory.limits()).tracks_max;
        if session.published.len() >= bound {
            return Err(Refusal::limit("tracks_max", session.published.len() as u64, bound as u64));
        }
        session.check_room(TRACK_BYTES, &directory.limits())?;
        let member = session.rooms.get(&room).copied().unwrap_or_default();
        let PublishTrack { label, activity, mls_epoch, .. } = wanted;
        let id = session.id;
        let entry = TrackEntry { room, member, publisher: id, kind, label, newcomers_from: 0, activity };
        let alias = loop {
            let Some(alias) = draw_alias(node, rng) else { continue };
            if directory.tracks.insert_new(alias, entry.clone()) {
                break alias;
            }
        };
        let track = Publishing { alias, kind, label: entry.label, activity, mls_epoch };
        let carries = Carries { kind, room, activity, member };
        if self.is_clustered() {
            // Nobody is told the alias before the home has taken the track: until then it is the publisher's only.
            self.ask(link, (room, request), Asked::Publish(track), outbox).inspect_err(|_| {
                directory.tracks.remove(&alias);
            })?;
            self.session_at(link)?.published.push(alias);
            self.tracks.publish(alias, carries, link);
            return Ok(());
        }
        if let Err(refusal) = self.announce(room, (member, id), &track, outbox) {
            directory.tracks.remove(&alias);
            return Err(refusal);
        }
        self.session_at(link)?.published.push(alias);
        self.tracks.publish(alias, carries, link);
        outbox.reply(id, request, Body::TrackPublished(TrackPublished { alias: alias.value() }));
        Ok(())
    }

    /// Where the room is: tells everybody else in it of a track.
    pub(crate) fn announce(
        &self,
        id: RoomId,
        (member, publisher): (MemberId, SessionId),
        track: &Publishing,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let (directory, unknown) = (&self.directory, || Refusal::of(RefusalReason::UnknownRoom));
        let (alias, mut entry) = (track.alias, track.entry(id, member, publisher));
        let mut room = directory.rooms.get_mut(&id).ok_or_else(unknown)?;
        let own = room.member_of(member, publisher).ok_or_else(unknown)?;
        own.tracks.push(alias);
        if room.settles(track.mls_epoch) {
            entry.newcomers_from = room.member_next;
        }
        let others = || room.sessions().filter(|other| *other != publisher);
        outbox.show_track(others(), alias, &entry);
        outbox.events(others(), rooms::announcement(&id, member, alias, &entry));
        directory.tracks.insert(alias, entry);
        Ok(())
    }

    /// Takes a new label and tells those who may have no keys for the last one.
    pub(crate) fn relabel(
        &mut self,
        link: u32,
        request: u64,
        wanted: RelabelTrack,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::of(RefusalReason::UnknownTrack);
        let alias = TrackAlias::new(wanted.alias).ok_or_else(unknown)?;
        let session = self.session_at(link)?;
        if !session.published.contains(&alias) {
            return Err(unknown());
        }
        Refusal::check_len("label", wanted.label.len(), wire::TRACK_LABEL_BYTES_MAX)?;
        let (id, RelabelTrack { label, mls_epoch, .. }) = (session.id, wanted);
        if self.is_clustered() {
            let room = self.directory.tracks.get(&alias).ok_or_else(unknown)?.room;
            return self.ask(link, (room, request), Asked::Relabel { alias, label, mls_epoch }, outbox);
        }
        self.label(alias, id, label, mls_epoch, outbox)?;
        outbox.done(id, request);
        Ok(())
    }

    /// Where the room is: a track has another label.
    pub(crate) fn label(
        &self,
        alias: TrackAlias,
        publisher: SessionId,
        label: Bytes,
        mls_epoch: u64,
        outbox: &mut Outbox,
    ) -> Result<(), Refusal> {
        let (directory, unknown) = (&self.directory, || Refusal::of(RefusalReason::UnknownTrack));
        let is_theirs = |track: &TrackEntry| track.publisher == publisher;
        let room_id = directory.tracks.get(&alias).filter(|track| is_theirs(track)).ok_or_else(unknown)?.room;
        // The room first and the track inside: whoever joins meanwhile finds the new label or is told of it.
        let room = directory.rooms.get_mut(&room_id).ok_or_else(unknown)?;
        let mut track = directory.tracks.get_mut(&alias).ok_or_else(unknown)?;
        track.label = label;
        let newcomers = room.members.range(track.newcomers_from..).filter(|(_, member)| member.session != publisher);
        let announced = rooms::announcement(&room_id, track.member, alias, &track);
        let told = newcomers.filter(|_| !crate::planted::planted!(RelabelNotTold));
        outbox.events(told.map(|(_, newcomer)| newcomer.session), announced);
        // A publisher that is behind seals for keys that not everybody has: their turn is with a later label as well.
        if room.settles(mls_epoch) || crate::planted::planted!(LabelEpochIgnored) {
            track.newcomers_from = room.member_next;
        }
        Ok(())
    }

    pub(crate) fn unpublish(&mut self, link: u32, alias: u64, outbox: &mut Outbox) -> Result<(), Refusal> {
        let alias = TrackAlias::new(alias).ok_or(Refusal::of(RefusalReason::UnknownTrack))?;
        let session = self.session_at(link)?;
        if !session.published.contains(&alias) {
            return Err(Refusal::of(RefusalReason::UnknownTrack));
        }
        session.published.retain(|own| *own != alias);
        let publisher = session.id;
        let Some(TrackEntry { room, member, .. }) = self.directory.tracks.get(&alias).map(|entry| entry.clone()) else {
            return Ok(());
        };
        if self.is_clustered() {
            self.directory.tracks.remove(&alias);
            self.track_ended(alias, outbox);
            return self.ask(link, (room, 0), Asked::Unpublish(alias), outbox);
        }
        self.retract(room, (member, publisher), alias, outbox);
        Ok(())
    }

    /// Where the room is: a member publishes a track no more.
    pub(crate) fn retract(
        &mut self,
        id: RoomId,
        (member, publisher): (MemberId, SessionId),
        alias: TrackAlias,
        outbox: &mut Outbox,
    ) {
        let was_there = self.directory.rooms.get_mut(&id).is_some_and(|mut room| {
            let Some(own) = room.member_of(member, publisher) else { return false };
            let before = own.tracks.len();
            own.tracks.retain(|own| *own != alias);
            own.tracks.len() < before
        });
        if was_there {
            self.end_tracks_of(&id, &[alias], outbox);
        }
    }

    /// Tracks of a room have ended: nobody here or elsewhere gets anything of them any more.
    pub(crate) fn end_tracks_of(&mut self, room: &RoomId, tracks: &[TrackAlias], outbox: &mut Outbox) {
        for alias in tracks {
            self.directory.tracks.remove(alias);
            self.end_track(*alias, room, outbox);
        }
    }

    fn end_track(&mut self, alias: TrackAlias, room: &RoomId, outbox: &mut Outbox) {
        if let Some(room_entry) = self.directory.rooms.get(room) {
            let ended = TrackEnded { room: Bytes::copy_from_slice(&room.0), alias: alias.value() };
            outbox.events(room_entry.sessions(), Body::TrackEnded(ended));
            outbox.mail_elsewhere(room_entry.sessions(), &ControlMail::TrackEnded { alias });
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
        let (publisher, carries) = {
            let entry = directory.tracks.get(&alias).ok_or_else(unknown)?;
            let TrackEntry { room, kind, activity, member, .. } = *entry;
            (entry.publisher, Carries { kind, room, activity, member })
        };
        let Carries { room, kind, .. } = carries;
        // Tracks of rooms one is not in are not told apart from tracks that are not there.
        let is_in = session.rooms.contains_key(&room) || crate::planted::planted!(SubscribeFromOutside);
        if !is_in || publisher == session.id {
            return Err(unknown());
        }
        let layers = u64::from(wanted.temporal_layer_max.max(wanted.spatial_layer_max));
        if layers > u64::from(Layer::MAX) {
            return Err(Refusal::field("layer_max", layers, u64::from(Layer::MAX)));
        }
        if u64::from(wanted.max_age_ms) > u64::from(wire::OBJECT_TTL_MS_MAX) {
            return Err(Refusal::field("max_age_ms", wanted.max_age_ms.into(), wire::OBJECT_TTL_MS_MAX.into()));
        }
        let bound = session.limits(&directory.limits()).subscriptions_max;
        let position = session.subscribed.iter().position(|subscribed| subscribed.alias == alias);
        if position.is_none() && session.subscribed.len() >= bound {
            return Err(Refusal::limit("subscriptions_max", session.subscribed.len() as u64, bound as u64));
        }
        if position.is_none() {
            session.check_room(SUBSCRIPTION_BYTES, &directory.limits())?;
        }
        let visual = matches!(kind, TrackKind::Video | TrackKind::Screen);
        let subscribed = Subscribed { alias, room, member: carries.member, visual, focus: wanted.focus };
        match position {
            Some(position) => session.subscribed[position] = subscribed,
            None => session.subscribed.push(subscribed),
        }
        session.receiver.get_or_insert_default();
        let own = session.rooms.get(&room).copied().unwrap_or_default();
        let id = session.id;
        let age_max = match wanted.max_age_ms {
            0 => directory.limits().queue_age_max,
            ms => Duration::from_millis(ms.into()),
        };
        let subscriber = Subscriber {
            link,
            temporal_layer_max: wanted.temporal_layer_max as u8,
            spatial_layer_max: wanted.spatial_layer_max as u8,
            age_max,
            focus: wanted.focus,
            speakers_max: wanted.speakers_max,
            member: own,
        };
        self.tracks.subscribe(alias, carries, subscriber);
        if visual && wanted.speakers_max > 0 {
            self.speakers.watch(room, carries.member, alias);
        }
        let demand = self.local_demand(alias);
        self.tracks.note_demand(alias, demand);
        self.choose_speaker(link);
        outbox.done(id, request);
        self.tell_interest(alias, publisher.at, demand, position.is_none().then_some(id), outbox);
        if visual && position.is_some() {
            // It may want layers now that go on with a key frame.
            outbox.mail(publisher.at, ControlMail::Keyframe { alias });
        }
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, link: u32, alias: u64, outbox: &mut Outbox) -> Result<(), Refusal> {
        let session = self.session_at(link)?;
        let position = session.subscribed.iter().position(|subscribed| subscribed.alias.value() == alias);
        let position = position.ok_or(Refusal::of(RefusalReason::UnknownTrack))?;
        let Subscribed { alias, .. } = session.subscribed.remove(position);
        self.choose_speaker(link);
        self.drop_subscription(link, alias, outbox);
        Ok(())
    }

    /// The session's list no longer has it; the table and the publisher's shard must not either.
    pub(crate) fn drop_subscription(&mut self, link: u32, alias: TrackAlias, outbox: &mut Outbox) {
        if let Some(Carries { room, member, .. }) = self.tracks.unsubscribe(alias, link) {
            self.speakers.forget(&room, member, alias);
        }
        let demand = self.local_demand(alias);
        self.tracks.note_demand(alias, demand);
        outbox.errand(Errand::EndSubscription { link, alias, code: StreamCode::UNSUBSCRIBED });
        let publisher = self.directory.tracks.get(&alias).map(|entry| entry.publisher);
        match publisher {
            Some(publisher) => self.tell_interest(alias, publisher.at, demand, None, outbox),
            // Over for this node, and who gathers it may not know.
            None if self.is_of_another_node(alias) => {
                let to = outbox.homes().of_track(alias);
                outbox.mail(to, nothing(alias, self.at));
            }
            None => {}
        }
    }

    /// A track is no more: nobody here subscribes to it.
    pub(crate) fn track_ended(&mut self, alias: TrackAlias, outbox: &mut Outbox) {
        let Some(track) = self.tracks.end(alias) else { return };
        self.keyframes.remove(&alias);
        self.cache.forget(alias);
        self.speakers.forget(&track.carries.room, track.carries.member, alias);
        self.end_crossings(alias, &track, outbox);
        for subscriber in track.local {
            if let Some(session) = self.session_mut(subscriber.link) {
                session.subscribed.retain(|subscribed| subscribed.alias != alias);
            }
            self.choose_speaker(subscriber.link);
            outbox.errand(Errand::EndSubscription { link: subscriber.link, alias, code: StreamCode::TRACK_ENDED });
        }
    }

    pub(crate) fn request_keyframe(&mut self, link: u32, alias: u64, outbox: &mut Outbox) -> Result<(), Refusal> {
        let unknown = || Refusal::of(RefusalReason::UnknownTrack);
        let session = self.session_at(link)?;
        let subscribed = session.subscribed.iter().find(|subscribed| subscribed.alias.value() == alias);
        let alias = subscribed.ok_or_else(unknown)?.alias;
        let publisher = self.directory.tracks.get(&alias).map(|entry| entry.publisher).ok_or_else(unknown)?;
        outbox.mail(publisher.at, ControlMail::Keyframe { alias });
        Ok(())
    }

    /// On the publisher's shard: what another shard's, or this one's, subscribers take has changed. Of a track of another
    /// node: on the shard that gathers it.
    pub(crate) fn interest(
        &mut self,
        alias: TrackAlias,
        from: Address,
        demand: Demand,
        fresh: Option<SessionId>,
        now: Instant,
        outbox: &mut Outbox,
    ) {
        if self.is_of_another_node(alias) && from.node == self.at.node {
            return self.gather(alias, from, demand, fresh, outbox);
        }
        // Local subscribers are in the table already.
        let remote = Remote { at: from, demand: if from == self.at { Demand::default() } else { demand } };
        let Some(track) = self.tracks.set_remote(alias, remote) else {
            // Its publisher left while the mail was on its way. Of another's track a node says nothing.
            if !self.is_of_another_node(alias) {
                outbox.mail(from, ControlMail::TrackEnded { alias });
            }
            return;
        };
        let (remote, link, visual) = (track.remote_demand(), track.publisher, track.is_visual());
        if from.node != self.at.node {
            self.note_taker(alias, from, demand, outbox);
        }
        let demand = self.local_demand(alias).and(remote);
        let Some(publisher) = link.and_then(|link| self.session_mut(link)).map(|session| session.id) else { return };
        outbox.event(publisher, Body::TrackDemand(demand.event(alias)));
        match fresh.filter(|_| visual) {
            Some(session) if self.cache.newest(alias).is_some() => {
                outbox.errand(Errand::SendNewestGroup { session, via: from, alias });
            }
            // The first one is news enough for the publisher to start a group.
            Some(_) if demand.subscribers > 1 => self.keyframe(alias, now, outbox),
            _ if demand.subscribers == 0 => self.cache.forget(alias),
            _ => {}
        }
    }

    /// What this shard's subscribers take of a track: what they asked for, as far as their paths go.
    pub(crate) fn local_demand(&self, alias: TrackAlias) -> Demand {
        let Some(track) = self.tracks.track(alias) else { return Demand::default() };
        let demand = |subscriber: &Subscriber| {
            let Some(session) = self.session(subscriber.link) else { return Demand::default() };
            let Some(receiver) = &session.receiver else { return Demand::default() };
            let ladder = receiver.ladder();
            let (temporal, spatial) = if track.is_visual() { ladder.layers_max() } else { (Layer::MAX, Layer::MAX) };
            // Any of them may be the one picture that is kept longest at the next moment.
            if ladder.refuses(last_rung(track.carries.kind, Layer::default(), true)).is_some() {
                return Demand { subscribers: 1, ..Demand::default() };
            }
            Demand {
                subscribers: 1,
                sent: 1,
                temporal_layer_max: subscriber.temporal_layer_max.min(temporal),
                spatial_layer_max: subscriber.spatial_layer_max.min(spatial),
                bits_per_second: receiver.bound_bits_per_second(),
            }
        };
        track.local.iter().map(demand).fold(Demand::default(), Demand::and)
    }

    /// A subscriber's path takes more or less than before: the publishers of its pictures are told, and asked for a key
    /// frame of those that it sees again.
    pub(crate) fn path_changed(&mut self, link: u32, change: &Change, outbox: &mut Outbox) {
        let Some(session) = self.session(link) else { return };
        let (rung, speaker) = (session.rung(), session.speaker);
        let pictures: Vec<TrackAlias> =
            session.subscribed.iter().filter(|track| track.visual).map(|track| track.alias).collect();
        for alias in pictures {
            let last = if speaker == Some(alias) { Rung::SpeakerOnly } else { Rung::NoSpatial };
            let again = change.from > last && rung <= last;
            let demand = self.local_demand(alias);
            let news = self.tracks.note_demand(alias, demand);
            let Some(publisher) = self.directory.tracks.get(&alias).map(|entry| entry.publisher) else { continue };
            if news {
                self.tell_interest(alias, publisher.at, demand, None, outbox);
            }
            if again {
                outbox.mail(publisher.at, ControlMail::Keyframe { alias });
            }
        }
    }

    /// A subscriber lost the newest base layer of a picture: it goes on with the next group, which is asked for.
    pub fn wish_keyframe(&mut self, link: u32, alias: TrackAlias, outbox: &mut Outbox) {
        let wants = self.session(link).is_some_and(|session| session.rung() < Rung::AudioOnly);
        let publisher = self.directory.tracks.get(&alias).map(|entry| entry.publisher);
        if let Some(publisher) = publisher.filter(|_| wants) {
            outbox.mail(publisher.at, ControlMail::Keyframe { alias });
        }
    }

    /// On the publisher's shard: passes a wish for a key frame on, at most once in the interval; a wish within it waits
    /// for its end.
    pub(crate) fn keyframe(&mut self, alias: TrackAlias, now: Instant, outbox: &mut Outbox) {
        let Some(link) = self.tracks.track(alias).and_then(|track| track.publisher) else { return };
        let Some(publisher) = self.session_mut(link).map(|session| session.id) else { return };
        let interval = self.directory.limits().keyframe_interval;
        if let Some(asked) = self.keyframes.get_mut(&alias)
            && now.saturating_duration_since(asked.at) < interval
        {
            asked.again = true;
            if !std::mem::replace(&mut asked.scheduled, true) {
                self.timers.insert(asked.at + interval, Due::Keyframe(alias));
            }
            return;
        }
        let asked = self.keyframes.entry(alias).or_insert(KeyframeAsked { at: now, again: false, scheduled: false });
        (asked.at, asked.again) = (now, false);
        outbox.event(publisher, Body::KeyframeRequested(KeyframeRequested { alias: alias.value() }));
    }

    /// The interval is over for wishes that came within it.
    pub(crate) fn keyframe_due(&mut self, alias: TrackAlias, now: Instant, outbox: &mut Outbox) {
        let Some(asked) = self.keyframes.get_mut(&alias) else { return };
        asked.scheduled = false;
        if asked.again {
            self.keyframe(alias, now, outbox);
        }
    }

    /// A new group of a track has begun: whoever wished for one has it.
    pub(crate) fn keyframe_came(&mut self, alias: TrackAlias) {
        if let Some(asked) = self.keyframes.get_mut(&alias) {
            asked.again = false;
        }
    }

    /// Takes a session out of a room: what it sends and what it gets there ends now.
    pub(crate) fn evict(&mut self, link: u32, room: &RoomId, outbox: &mut Outbox) -> Option<MemberId> {
        let session = self.session_mut(link)?;
        let member = session.rooms.remove(room)?;
        if let Some(links) = self.links_by_room.get_mut(room) {
            links.retain(|other| *other != link);
            if links.is_empty() {
                self.links_by_room.remove(room);
            }
        }
        let session = self.session_mut(link)?;
        let mut ended = Vec::new();
        session.subscribed.retain(|subscribed| {
            if subscribed.room == *room && !crate::planted::planted!(KickKeepsSubscriptions) {
                ended.push(subscribed.alias);
            }
            subscribed.room != *room
        });
        outbox.errand(Errand::Recall(link));
        self.choose_speaker(link);
        for alias in ended {
            self.drop_subscription(link, alias, outbox);
        }
        let own: Vec<TrackAlias> = self.session_mut(link)?.published.clone();
        let (gone, kept): (Vec<_>, Vec<_>) = own
            .into_iter()
            .partition(|alias| self.tracks.track(*alias).is_none_or(|track| track.carries.room == *room));
        self.session_mut(link)?.published = kept;
        // The other shards are the business of whoever took the member out of the room, and on a single relay the directory's
        // entries are: in a cluster that may be another node.
        let is_clustered = self.is_clustered();
        for alias in gone {
            if is_clustered {
                self.directory.tracks.remove(&alias);
            }
            self.track_ended(alias, outbox);
        }
        Some(member)
    }

    fn choose_speaker(&mut self, link: u32) {
        let Self { sessions, speakers, .. } = self;
        if let Some(session) = sessions.get_mut(link as usize).and_then(Option::as_mut) {
            session.choose_speaker(speakers);
        }
    }

    /// Which session a link belongs to, for refusals that need its name.
    pub(crate) fn id_of(&self, link: u32) -> Option<SessionId> {
        self.sessions.get(link as usize)?.as_ref().map(|session| session.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn drawn(node: u16, seed: u64) -> u64 {
        draw_alias(NodeId(node), &mut StdRng::seed_from_u64(seed)).expect("a number of the wire's").value()
    }

    proptest! {
        //
        #[test]
        fn two_nodes_never_draw_the_same_alias(nodes in any::<(u16, u16)>(), seeds in any::<(u64, u64)>()) {
            let (one, other) = (drawn(nodes.0, seeds.0), drawn(nodes.1, seeds.1));
            prop_assert_eq!((one >> ALIAS_BITS, other >> ALIAS_BITS), (nodes.0.into(), nodes.1.into()));
            // Not even by the same random numbers.
            prop_assert!(nodes.0 == nodes.1 || drawn(nodes.0, seeds.0) != drawn(nodes.1, seeds.0));
            prop_assert!(drawn(0, seeds.0) < 1 << 30, "four bytes where there is one node");
        }
    }
}
