//! One session's state in the core.

use std::{collections::BTreeMap, time::Instant};

use supernode_proto::{
    identity::{DeviceKey, EXPORTER_BYTES, IdentityKey, RoomId},
    object::TrackAlias,
};

use super::{MemberId, RingId, SessionId, ladder::Ladder, limits::Limits, rate::Bucket};

/// An authenticated connection of one device. Everything in it is bounded by a limit, and everything it names
/// elsewhere is taken back when it ends.
#[derive(Debug)]
pub struct Session {
    pub(crate) id: SessionId,
    pub(crate) identity: IdentityKey,
    pub(crate) device: DeviceKey,
    /// Binds join proofs to this connection.
    pub(crate) exporter: [u8; EXPORTER_BYTES],
    pub(crate) rooms: BTreeMap<RoomId, MemberId>,
    pub(crate) published: Vec<TrackAlias>,
    pub(crate) subscribed: Vec<(TrackAlias, RoomId)>,
    pub(crate) watches: Vec<Watched>,
    /// Whether a look at the watches' tickets is scheduled.
    pub(crate) watches_scheduled: bool,
    pub(crate) rings: Vec<RingId>,
    pub(crate) requests: Bucket,
    pub(crate) ring_starts: Bucket,
    pub(crate) objects: Bucket,
    pub(crate) bytes: Bucket,
    /// What is left of the relay's patience with objects above the rates.
    pub(crate) patience: Bucket,
    pub(crate) ladder: Ladder,
}

/// An identity that a session watches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pub(crate) identity: IdentityKey,
    /// Last second of the ticket, Unix time.
    pub(crate) not_after_unix_s: u64,
}

impl Session {
    pub(crate) fn new(
        id: SessionId,
        identity: IdentityKey,
        device: DeviceKey,
        exporter: [u8; EXPORTER_BYTES],
        limits: &Limits,
        now: Instant,
    ) -> Self {
        let requests = u64::from(limits.requests_per_second_max);
        let rings = u64::from(limits.rings_per_minute_max);
        Self {
            id,
            identity,
            device,
            exporter,
            rooms: BTreeMap::new(),
            published: Vec::new(),
            subscribed: Vec::new(),
            watches: Vec::new(),
            watches_scheduled: false,
            rings: Vec::new(),
            requests: Bucket::new(requests, requests * 4, now),
            ring_starts: Bucket::per_minute(rings, now),
            objects: Bucket::new(limits.ingest_objects_per_second_max, limits.ingest_objects_per_second_max, now),
            bytes: Bucket::new(limits.ingest_bytes_per_second_max, limits.ingest_bytes_per_second_max, now),
            patience: Bucket::new(limits.ingest_excess_objects_max / 100, limits.ingest_excess_objects_max, now),
            ladder: Ladder::default(),
        }
    }

    /// Who is connected.
    pub fn id(&self) -> SessionId {
        self.id
    }
}
