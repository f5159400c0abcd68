//! The hot path's steps: from a publisher's bytes to an offer for each subscriber. No allocation, no registry, no lock.

use std::time::{Duration, Instant};

use bytes::Bytes;
use supernode_proto::{
    control::TrackKind,
    identity::RoomId,
    object::{DatagramHeader, Layer, StreamHeader, TrackAlias},
};

use super::{
    ShardCore, ShardId,
    forward::{Remote, Subscriber, Track},
    ledger::{DropReason, Ledger, RefuseReason},
    session::Session,
};

/// An object on its way to one subscriber.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The subscriber's connection.
    pub link: u32,
    /// The object's track.
    pub alias: TrackAlias,
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
    /// The room, which the publisher must not have left.
    pub room: RoomId,
    /// What it carries.
    pub kind: TrackKind,
    /// Subscribers on this shard.
    pub local: Vec<StreamTarget>,
    /// Other shards with subscribers.
    pub remote: Vec<Remote>,
    /// Those among them whose inbox was full: a stream cannot skip, so they lose the rest of it.
    pub lost: Vec<Remote>,
}

/// One subscriber of a stream.
#[derive(Debug)]
pub struct StreamTarget {
    /// Who.
    pub subscriber: Subscriber,
    /// The current object is not for this subscriber.
    pub skips: bool,
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
        mut remote: impl FnMut(ShardId) -> bool,
    ) -> Result<(), RefuseReason> {
        let admitted = match self.sessions.get_mut(link as usize).and_then(Option::as_mut) {
            None => Err(RefuseReason::NoSession),
            Some(session) => match charge(session, 1, wire.len(), now) {
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
        self.ledger.objects_in += 1;
        for other in &track.remote {
            if !remote(other.shard) {
                overflow(&mut self.ledger, other);
            }
        }
        offer_datagram(track, &header, now, &self.sessions, &mut self.ledger, local);
        Ok(())
    }

    /// Notes an object above a session's rates; returns whether the session has sent too many.
    pub fn lose_patience(&mut self, link: u32, now: Instant) -> bool {
        self.session_mut(link).is_some_and(|session| !session.patience.take(1, now))
    }

    /// Delivers an object that another shard passed on.
    pub fn deliver_datagram(&mut self, wire: &Bytes, arrived: Instant, local: impl FnMut(Offer, &mut Ledger)) {
        // The publisher's shard has decoded it before, and the track may have ended here since.
        let Ok((header, _)) = DatagramHeader::decode(wire) else { return };
        if let Some(track) = self.tracks.track(header.hop.alias) {
            offer_datagram(track, &header, arrived, &self.sessions, &mut self.ledger, local);
        }
    }

    /// Charges a publisher for bytes of a stream, and for an object when one begins.
    ///
    /// # Errors
    /// [`RefuseReason::RateExceeded`]; counted already.
    pub fn charge_stream(&mut self, link: u32, objects: u64, bytes: usize, now: Instant) -> Result<(), RefuseReason> {
        let Some(session) = self.session_mut(link) else { return Err(RefuseReason::NoSession) };
        if charge(session, objects, bytes, now) {
            self.ledger.objects_in += objects;
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
        kind: TrackKind,
        target: &mut StreamTarget,
        layer: Layer,
    ) -> Option<DropReason> {
        self.ledger.offered += 1;
        let refused = refuses(&target.subscriber, kind, layer, &self.sessions);
        target.skips = refused.is_some();
        if let Some(reason) = refused {
            self.ledger.drop(reason, 1);
        }
        refused
    }

    /// Counts an object of a stream for those shards that do not get it.
    pub fn count_lost(&mut self, lost: &[Remote]) {
        for other in lost {
            overflow(&mut self.ledger, other);
        }
    }
}

impl StreamRoute {
    fn new(alias: TrackAlias, track: &Track) -> Self {
        let target = |subscriber: &Subscriber| StreamTarget { subscriber: *subscriber, skips: false };
        Self {
            alias,
            room: track.room,
            kind: track.kind,
            local: track.local.iter().map(target).collect(),
            remote: track.remote.clone(),
            lost: Vec::new(),
        }
    }
}

fn charge(session: &mut Session, objects: u64, bytes: usize, now: Instant) -> bool {
    session.objects.take(objects, now) && session.bytes.take(bytes as u64, now)
}

fn overflow(ledger: &mut Ledger, other: &Remote) {
    ledger.offered += u64::from(other.subscribers);
    ledger.drop(DropReason::ShardOverflow, u64::from(other.subscribers));
}

fn offer_datagram(
    track: &Track,
    header: &DatagramHeader,
    arrived: Instant,
    sessions: &[Option<Session>],
    ledger: &mut Ledger,
    mut local: impl FnMut(Offer, &mut Ledger),
) {
    let ttl = Duration::from_millis(u64::from(header.hop.ttl_ms));
    for subscriber in &track.local {
        ledger.offered += 1;
        if let Some(reason) = refuses(subscriber, track.kind, header.visible.layer, sessions) {
            ledger.drop(reason, 1);
            continue;
        }
        let expires = arrived + ttl.min(subscriber.age_max);
        local(Offer { link: subscriber.link, alias: header.hop.alias, arrived, expires }, ledger);
    }
}

fn refuses(subscriber: &Subscriber, kind: TrackKind, layer: Layer, sessions: &[Option<Session>]) -> Option<DropReason> {
    let session = sessions.get(subscriber.link as usize).and_then(Option::as_ref);
    let ladder = session.and_then(|session| session.ladder.refuses(kind, layer.temporal()));
    subscriber.refuses(layer).or(ladder)
}
