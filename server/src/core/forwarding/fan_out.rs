//! The hot path's steps: from a publisher's bytes to an offer for each subscriber. No allocation, no registry, no lock.

use std::time::{Duration, Instant};

use bytes::Bytes;
use supernode_proto::{
    control::TrackKind,
    identity::RoomId,
    object::{DatagramHeader, Flags, Layer, StreamHeader, StreamObjectHeader, TrackAlias},
};

use super::{
    forward::{Carries, Remote, Subscriber, Track},
    ledger::{DropReason, Ledger, RefuseReason},
    speakers::Speakers,
    stream::StreamPart,
};
use crate::{
    core::{Address, MemberId, ShardCore, StreamKey, grants::accounts::Allowance, session::Session},
    prefetch::prefetch,
};

/// An object on its way to one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The subscriber's connection.
    pub link: u32,
    /// Whose connection is needed next.
    pub next: Option<u32>,
    /// The object's track.
    pub alias: TrackAlias,
    /// What the track carries.
    pub kind: TrackKind,
    /// When it came to the relay.
    pub arrived: Instant,
    /// When it is no longer worth sending.
    pub expires: Instant,
}

/// What a stream's objects are to one shard: fixed when the stream begins.
#[derive(Debug)]
pub struct StreamRoute {
    /// The track.
    pub alias: TrackAlias,
    /// What it carries, and where.
    pub carries: Carries,
    /// Subscribers on this shard.
    pub local: Vec<StreamTarget>,
    /// Other shards with subscribers.
    pub remote: Vec<Remote>,
    /// Those among them whose inbox was full: a stream cannot skip, so they lose the rest of it.
    pub lost: Vec<Remote>,
    /// Whether it comes from another node, and this shard passes it on to others here.
    pub gathered: bool,
}

/// One subscriber of a stream.
#[derive(Debug)]
pub struct StreamTarget {
    /// Who.
    pub subscriber: Subscriber,
    /// The current object is not for this subscriber.
    pub skips: bool,
    /// Lowest spatial layer of which an object was left out: it goes on with an independent one.
    gap: u8,
}

impl Offer {
    /// Whether it goes before others.
    pub fn is_audio(&self) -> bool {
        self.kind == TrackKind::Audio
    }
}

impl ShardCore {
    /// Forwards an object that came in a datagram on connection `link`. `local` is called for each subscriber of this
    /// shard that wants it, and must deliver, queue or drop it, and count that; `remote` once for each other shard,
    /// and says whether that shard's inbox took it.
    ///
    /// # Errors
    /// Why nobody gets it; counted already.
    pub fn forward_datagram(
        &mut self,
        link: u32,
        wire: &Bytes,
        now: Instant,
        local: impl FnMut(Offer, &mut Ledger),
        mut remote: impl FnMut(Address) -> bool,
    ) -> Result<(), RefuseReason> {
        let admitted = match self.sessions.get_mut(link as usize).and_then(Option::as_mut) {
            None => Err(RefuseReason::NoSession),
            Some(session) => match session.charge(1, wire.len(), &self.limits, now) {
                true => self.tracks.admit_datagram(link, wire),
                false => Err(RefuseReason::RateExceeded),
            },
        };
        let (header, track) = match admitted {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.ledger.refuse(reason);
                return Err(reason);
            }
        };
        self.ledger.let_in(track.carries.kind, 1, wire.len());
        for other in &track.remote {
            if !remote(other.at) {
                overflow(&mut self.ledger, other);
            }
        }
        offer_datagram(track, &header, wire.len(), now, &mut self.sessions, &self.speakers, &mut self.ledger, local);
        if track.carries.activity {
            let Carries { room, member, .. } = track.carries;
            self.hear(room, member, header.visible.flags.activity(), now);
        }
        Ok(())
    }

    /// Notes an object above an identity's rates; returns whether it has sent too many.
    pub fn lose_patience(&self, link: u32, now: Instant) -> bool {
        let take =
            |session: &Session| session.account.take(Allowance::ObjectsExcess, 1, session.limits(&self.limits), now);
        self.session(link).is_some_and(|session| !take(session))
    }

    /// Delivers an object that another shard passed on. `remote` is called for other shards of this node if this one gathers
    /// what they take of a track of another node.
    pub fn deliver_datagram(
        &mut self,
        wire: &Bytes,
        arrived: Instant,
        local: impl FnMut(Offer, &mut Ledger),
        mut remote: impl FnMut(Address) -> bool,
    ) {
        // The publisher's shard has decoded it before, and the track may have ended here since.
        let Ok((header, _)) = DatagramHeader::decode(wire) else { return };
        if let Some(track) = self.tracks.track(header.hop.alias) {
            for other in &track.remote {
                if !remote(other.at) {
                    overflow(&mut self.ledger, other);
                }
            }
            offer_datagram(
                track,
                &header,
                wire.len(),
                arrived,
                &mut self.sessions,
                &self.speakers,
                &mut self.ledger,
                local,
            );
            // Who only passes it on chooses for nobody.
            if track.carries.activity && !track.local.is_empty() {
                let Carries { room, member, .. } = track.carries;
                self.hear(room, member, header.visible.flags.activity(), arrived);
            }
        }
    }

    fn hear(&mut self, room: RoomId, member: MemberId, activity: u8, now: Instant) {
        let Some(moved) = self.speakers.heard(room, member, activity, now) else { return };
        self.wanted_pictures.extend(moved.pictures);
        if moved.first {
            let Self { sessions, speakers, links_by_room, .. } = self;
            for link in links_by_room.get(&room).into_iter().flatten() {
                if let Some(session) = sessions.get_mut(*link as usize).and_then(Option::as_mut) {
                    session.choose_speaker(speakers);
                }
            }
        }
    }

    /// Charges a publisher for bytes of a stream, and for an object when one begins.
    ///
    /// # Errors
    /// [`RefuseReason::RateExceeded`]; counted already.
    pub fn charge_stream(
        &mut self,
        link: u32,
        kind: TrackKind,
        objects: u64,
        bytes: usize,
        now: Instant,
    ) -> Result<(), RefuseReason> {
        let session = self.sessions.get_mut(link as usize).and_then(Option::as_mut);
        let Some(session) = session else { return Err(RefuseReason::NoSession) };
        if session.charge(objects, bytes, &self.limits, now) {
            self.ledger.let_in(kind, objects, bytes);
            return Ok(());
        }
        self.ledger.refuse(RefuseReason::RateExceeded);
        Err(RefuseReason::RateExceeded)
    }

    /// Where a stream that begins on connection `link` goes.
    ///
    /// # Errors
    /// [`RefuseReason::UnknownTrack`]; counted already.
    pub fn route_stream(&mut self, link: u32, header: &StreamHeader) -> Result<StreamRoute, RefuseReason> {
        match self.tracks.admit(link, header.hop.alias) {
            Ok(track) => Ok(StreamRoute::new(header.hop.alias, track)),
            Err(reason) => {
                self.ledger.refuse(reason);
                Err(reason)
            }
        }
    }

    /// Where a stream that another shard passes on goes here.
    pub fn route_remote_stream(&self, header: &StreamHeader) -> Option<StreamRoute> {
        self.tracks.track(header.hop.alias).map(|track| StreamRoute::new(header.hop.alias, track))
    }

    /// Offers an object that begins on a stream to one of its subscribers. When it is not for them, it is counted as
    /// dropped, the target skips it to its end, and the reason is returned.
    pub fn offer_stream_object(
        &mut self,
        alias: TrackAlias,
        carries: &Carries,
        target: &mut StreamTarget,
        header: &StreamObjectHeader,
    ) -> Option<DropReason> {
        self.ledger.offered += 1;
        let object = Object { alias, carries, layer: header.layer, bytes: header.length as usize };
        let refused = refuses(&target.subscriber, &object, &mut self.sessions, &self.speakers);
        let refused = refused.filter(|reason| !is_sent_anyhow(*reason, header.flags));
        let refused = refused.or(target.awaits_independent(header));
        target.skips = refused.is_some();
        if let Some(reason) = refused {
            self.ledger.drop(reason, 1);
            target.gap = target.gap.min(header.layer.spatial());
        }
        refused
    }

    /// Keeps a stream of the newest group.
    pub fn keep_stream(&mut self, key: StreamKey, header: &StreamHeader, wire: &Bytes) {
        if self.cache.open(key, header, wire, &self.limits) {
            self.keyframe_came(header.hop.alias);
        }
    }

    /// Keeps a part of a stream of the newest group.
    pub fn keep_part(&mut self, alias: TrackAlias, key: StreamKey, part: &StreamPart) {
        self.cache.push(alias, key, part, &self.limits);
    }

    /// Counts an object of a stream for those shards that do not get it.
    pub fn count_lost(&mut self, lost: &[Remote]) {
        for other in lost {
            overflow(&mut self.ledger, other);
        }
    }
}

impl StreamRoute {
    /// A stream that nobody has yet.
    pub fn empty(alias: TrackAlias, carries: Carries) -> Self {
        Self { alias, carries, local: Vec::new(), remote: Vec::new(), lost: Vec::new(), gathered: false }
    }

    fn new(alias: TrackAlias, track: &Track) -> Self {
        Self {
            alias,
            carries: track.carries,
            local: track.local.iter().copied().map(StreamTarget::new).collect(),
            remote: track.remote.clone(),
            lost: Vec::new(),
            gathered: track.gathered,
        }
    }
}

impl StreamTarget {
    /// A subscriber that is to have the stream from here on.
    pub fn new(subscriber: Subscriber) -> Self {
        Self { subscriber, skips: false, gap: Layer::MAX + 1 }
    }

    /// A spatial layer that was left out goes on with an object that needs no earlier one.
    fn awaits_independent(&mut self, header: &StreamObjectHeader) -> Option<DropReason> {
        if header.layer.spatial() < self.gap {
            return None;
        }
        if header.flags.contains(Flags::INDEPENDENT) {
            self.gap = Layer::MAX + 1;
            return None;
        }
        Some(DropReason::AwaitsIndependent)
    }
}

pub(crate) fn overflow(ledger: &mut Ledger, other: &Remote) {
    ledger.offered += u64::from(other.demand.subscribers);
    ledger.drop(DropReason::ShardOverflow, u64::from(other.demand.subscribers));
}

#[expect(clippy::too_many_arguments, reason = "the parts of one shard that an object needs, each for itself")]
fn offer_datagram(
    track: &Track,
    header: &DatagramHeader,
    bytes: usize,
    arrived: Instant,
    sessions: &mut [Option<Box<Session>>],
    speakers: &Speakers,
    ledger: &mut Ledger,
    mut local: impl FnMut(Offer, &mut Ledger),
) {
    let ttl = Duration::from_millis(u64::from(header.hop.ttl_ms));
    let (alias, kind) = (header.hop.alias, track.carries.kind);
    let object = Object { alias, carries: &track.carries, layer: header.visible.layer, bytes };
    let (mut age_max, mut expires) = (ttl, arrived + ttl);
    for (index, subscriber) in track.local.iter().enumerate() {
        let next = track.local.get(index + 1).map(|next| next.link);
        if let Some(session) = next.and_then(|next| sessions.get(next as usize)?.as_deref()) {
            prefetch(session, Session::HOT_BYTES);
        }
        ledger.offered += 1;
        if let Some(reason) = refuses(subscriber, &object, sessions, speakers)
            && !is_sent_anyhow(reason, header.visible.flags)
        {
            ledger.drop(reason, 1);
            continue;
        }
        // Most subscribers have the same age, and adding to a moment takes longer than comparing.
        if subscriber.age_max != age_max {
            (age_max, expires) = (subscriber.age_max, arrived + ttl.min(subscriber.age_max));
        }
        if crate::planted::planted!(DatagramTwice, once in 100) {
            ledger.offered += 1;
            local(Offer { link: subscriber.link, next, alias, kind, arrived, expires }, ledger);
        }
        local(Offer { link: subscriber.link, next, alias, kind, arrived, expires }, ledger);
    }
}

/// What decides whether a subscriber gets an object.
struct Object<'a> {
    alias: TrackAlias,
    carries: &'a Carries,
    layer: Layer,
    bytes: usize,
}

/// In line: what surrounds a call is a sixth of what is done here for each subscriber.
#[inline(always)]
fn refuses(
    subscriber: &Subscriber,
    object: &Object<'_>,
    sessions: &mut [Option<Box<Session>>],
    speakers: &Speakers,
) -> Option<DropReason> {
    if let Some(reason) = subscriber.refuses(object.layer) {
        return Some(reason);
    }
    let Carries { kind, room, member, .. } = object.carries;
    let Subscriber { speakers_max, member: own, .. } = *subscriber;
    if speakers_max > 0 && !speakers.is_among(room, *member, speakers_max, own) {
        return Some(DropReason::NotSpeaking);
    }
    let session = sessions.get_mut(subscriber.link as usize).and_then(Option::as_mut)?;
    let is_picture = matches!(kind, TrackKind::Video | TrackKind::Screen);
    let speaker = is_picture && session.speaker == Some(object.alias);
    session.receiver.as_mut()?.offer(*kind, object.layer, speaker, object.bytes)
}

/// Whoever goes without a track for now is told all the same that it is over: it would wait for what never
/// comes. Asked of few objects, so that it is kept out of what all of them take.
#[cold]
#[inline(never)]
fn is_sent_anyhow(reason: DropReason, flags: Flags) -> bool {
    flags.contains(Flags::END_OF_TRACK) && reason.ends_stream()
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn whoever_goes_without_a_track_is_told_its_end_and_whoever_does_not_want_a_layer_is_not() {
        let end = Flags::INDEPENDENT | Flags::END_OF_GROUP | Flags::END_OF_TRACK;
        for reason in [DropReason::LadderAudioOnly, DropReason::LadderSpeakerOnly, DropReason::NotSpeaking] {
            assert!(is_sent_anyhow(reason, end) && !is_sent_anyhow(reason, Flags::INDEPENDENT), "{reason:?}");
        }
        assert!(!is_sent_anyhow(DropReason::LayerNotWanted, end));
    }

    //
    #[test]
    fn a_spatial_layer_that_was_left_out_goes_on_with_an_object_that_needs_none_before_it() {
        let (age_max, link) = (Duration::ZERO, 0);
        let subscriber = Subscriber {
            link,
            temporal_layer_max: 7,
            spatial_layer_max: 7,
            age_max,
            focus: false,
            speakers_max: 0,
            member: 1,
        };
        let mut target = StreamTarget { subscriber, skips: false, gap: 1 };
        let mut offer = |spatial, flags| {
            let layer = Layer::new(0, spatial).expect("small");
            target.awaits_independent(&StreamObjectHeader { object: 0, flags, layer, length: 1 })
        };
        assert_eq!(offer(0, Flags::default()), None, "the layers below go on");
        assert_eq!(offer(1, Flags::default()), Some(DropReason::AwaitsIndependent));
        assert_eq!(offer(2, Flags::DISCARDABLE), Some(DropReason::AwaitsIndependent));
        assert_eq!(offer(1, Flags::INDEPENDENT), None);
        assert_eq!(offer(1, Flags::default()), None);
    }
}
