//! One session's state in the core.

use std::{collections::BTreeMap, time::Instant};

use supernode_proto::{
    identity::{DeviceKey, EXPORTER_BYTES, IdentityKey, RelayPin, RoomId},
    object::TrackAlias,
};

use super::{
    Greeting, MemberId, RingId, SessionId, TokenDigest, limits::Limits, rate::Bucket, receiver::Receiver,
    speakers::Speakers,
};

/// An authenticated connection of one device. Everything in it is bounded by a limit, and everything it names
/// elsewhere is taken back when it ends.
#[derive(Debug)]
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) identity: IdentityKey,
    pub(crate) device: DeviceKey,
    /// Which token it was let in with, so that taking the token back ends the session.
    token: Option<TokenDigest>,
    since: Instant,
    /// The relay that its Hello named.
    pub(crate) relay: RelayPin,
    /// Binds join proofs and tickets to this connection.
    pub(crate) exporter: [u8; EXPORTER_BYTES],
    pub(crate) rooms: BTreeMap<RoomId, MemberId>,
    pub(crate) published: Vec<TrackAlias>,
    /// In the order in which it began.
    pub(crate) subscribed: Vec<Subscribed>,
    /// The one picture that is kept longest when the path is narrow.
    pub(crate) speaker: Option<TrackAlias>,
    pub(crate) watches: Vec<Watched>,
    /// Whether a look at the watches' tickets is scheduled.
    pub(crate) watches_scheduled: bool,
    pub(crate) rings: Vec<RingId>,
    /// Whose key packages it was handed, newest last: of them it may ring these devices.
    pub(crate) handed: Vec<Handed>,
    pub(crate) requests: Bucket,
    pub(crate) ring_starts: Bucket,
    pub(crate) objects: Bucket,
    pub(crate) bytes: Bucket,
    /// What is left of the relay's patience with objects above the rates.
    pub(crate) patience: Bucket,
    pub(crate) receiver: Receiver,
}

/// A track that a session subscribes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscribed {
    pub(crate) alias: TrackAlias,
    pub(crate) room: RoomId,
    /// Whose it is.
    pub(crate) member: MemberId,
    /// Whether it is a picture.
    pub(crate) visual: bool,
    /// Whether the subscriber says that it looks at it.
    pub(crate) focus: bool,
}

/// An identity that a session watches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) identity: IdentityKey,
    /// Last second of the ticket, Unix time.
    pub(crate) not_after_unix_s: u64,
}

/// Devices whose key packages a session was handed, to ring them.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) callee: IdentityKey,
    pub(crate) devices: Vec<DeviceKey>,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        identity: IdentityKey,
        device: DeviceKey,
        token: Option<TokenDigest>,
        greeting: &Greeting<'_>,
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let requests = u64::from(limits.requests_per_second_max);
        let rings = u64::from(limits.rings_per_minute_max);
        Self {
            id,
            identity,
            device,
            token,
            since: now,
            relay: greeting.relay,
            exporter: greeting.exporter,
            rooms: BTreeMap::new(),
            published: Vec::new(),
            subscribed: Vec::new(),
            speaker: None,
            watches: Vec::new(),
            watches_scheduled: false,
            rings: Vec::new(),
            handed: Vec::new(),
            requests: Bucket::new(requests, requests * 4, now),
            ring_starts: Bucket::per_minute(rings, now),
            objects: Bucket::new(limits.ingest_objects_per_second_max, limits.ingest_objects_per_second_max, now),
            bytes: Bucket::new(limits.ingest_bytes_per_second_max, limits.ingest_bytes_per_second_max, now),
            patience: Bucket::new(limits.ingest_excess_objects_max / 100, limits.ingest_excess_objects_max, now),
            receiver: Receiver::default(),
        }
    }

    /// The picture that the subscriber looks at, or that of the liveliest member, or the first one.
    pub(crate) fn choose_speaker(&mut self, speakers: &Speakers) {
        let pictures = || self.subscribed.iter().filter(|track| track.visual);
        let is_first = |track: &&Subscribed| {
            let own = self.rooms.get(&track.room).copied().unwrap_or_default();
            speakers.first(&track.room, own) == Some(track.member)
        };
        let chosen = pictures().find(|track| track.focus).or_else(|| pictures().find(is_first));
        let chosen = chosen.or_else(|| pictures().next());
        self.speaker = chosen.map(|track| track.alias);
    }

    /// Which session this is.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Who is connected.
    pub fn identity(&self) -> IdentityKey {
        self.identity
    }

    /// On which device.
    pub fn device(&self) -> DeviceKey {
        self.device
    }

    /// The token it was let in with, if it showed one.
    pub fn token(&self) -> Option<TokenDigest> {
        self.token
    }

    /// When it was let in.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Rooms it is in, tracks it publishes and tracks it subscribes to.
    pub fn counts(&self) -> (usize, usize, usize) {
        (self.rooms.len(), self.published.len(), self.subscribed.len())
    }
}
