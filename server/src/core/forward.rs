//! The hot path: which subscribers an object is for.
//!
//! A shard's table holds every track that is published or subscribed on it. One hash look-up by the track's alias
//! gives the subscribers; the registry is not asked, nothing is allocated, and a publisher's bytes go to every
//! subscriber as they came, because the alias is the same for all of them.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::FixedState;
use supernode_proto::{
    control::TrackKind,
    identity::RoomId,
    limits::DATAGRAM_BYTES_MAX,
    object::{DatagramHeader, Layer, TrackAlias},
};

use super::{
    ShardId,
    ledger::{DropReason, RefuseReason},
};

/// One subscription of a session on this shard.
#[derive(Debug, Clone, Copy)]
pub struct Subscriber {
    /// The session's connection.
    pub link: u32,
    /// Highest temporal layer wanted.
    pub temporal_layer_max: u8,
    /// Highest spatial layer wanted.
    pub spatial_layer_max: u8,
    /// How long an object may wait.
    pub age_max: Duration,
}

impl Subscriber {
    /// Why this subscriber does not want an object of this layer, if so.
    pub fn refuses(&self, layer: Layer) -> Option<DropReason> {
        let wanted = layer.temporal() <= self.temporal_layer_max && layer.spatial() <= self.spatial_layer_max;
        (!wanted).then_some(DropReason::LayerNotWanted)
    }
}

/// Another shard with subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Which.
    pub shard: ShardId,
    /// How many it has.
    pub subscribers: u32,
}

/// A track as one shard knows it.
#[derive(Debug)]
pub struct Track {
    /// What it carries.
    pub kind: TrackKind,
    /// Where.
    pub room: RoomId,
    /// Its publisher's connection, on the publisher's shard only.
    pub publisher: Option<u32>,
    /// Subscribers on this shard.
    pub local: Vec<Subscriber>,
    /// Shards with more, on the publisher's shard only. Each is sent one copy of an object.
    pub remote: Vec<Remote>,
}

impl Track {
    /// Subscribers everywhere, as the publisher's shard knows them.
    pub fn demand(&self) -> u32 {
        self.local.len() as u32 + self.remote.iter().map(|remote| remote.subscribers).sum::<u32>()
    }
}

/// One shard's tracks. Aliases are the relay's own random numbers: a fast hash without a secret will do.
#[derive(Debug, Default)]
pub struct TrackTable {
    by_alias: HashMap<TrackAlias, Track, FixedState>,
}

impl TrackTable {
    /// The track and the header of a datagram that its publisher sent on connection `link`.
    ///
    /// # Errors
    /// [`RefuseReason::Malformed`] or [`RefuseReason::UnknownTrack`].
    pub fn admit_datagram(&self, link: u32, wire: &[u8]) -> Result<(DatagramHeader, &Track), RefuseReason> {
        if wire.len() > DATAGRAM_BYTES_MAX {
            return Err(RefuseReason::Malformed);
        }
        let (header, _) = DatagramHeader::decode(wire).map_err(|_| RefuseReason::Malformed)?;
        let track = self.admit(link, header.hop.alias)?;
        Ok((header, track))
    }

    /// The track, if connection `link` publishes it.
    ///
    /// # Errors
    /// [`RefuseReason::UnknownTrack`].
    pub fn admit(&self, link: u32, alias: TrackAlias) -> Result<&Track, RefuseReason> {
        self.by_alias.get(&alias).filter(|track| track.publisher == Some(link)).ok_or(RefuseReason::UnknownTrack)
    }

    /// The track, whoever publishes it.
    pub fn track(&self, alias: TrackAlias) -> Option<&Track> {
        self.by_alias.get(&alias)
    }

    /// How many tracks are published or subscribed here.
    pub fn len(&self) -> usize {
        self.by_alias.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_alias.is_empty()
    }

    /// Enters a track of a publisher on this shard.
    pub fn publish(&mut self, alias: TrackAlias, kind: TrackKind, room: RoomId, link: u32) {
        self.entry(alias, kind, room).publisher = Some(link);
    }

    /// Enters a subscription; returns how many this shard has now. A second one of the same link replaces the first.
    pub fn subscribe(&mut self, alias: TrackAlias, kind: TrackKind, room: RoomId, subscriber: Subscriber) -> u32 {
        let local = &mut self.entry(alias, kind, room).local;
        local.retain(|earlier| earlier.link != subscriber.link);
        local.push(subscriber);
        local.len() as u32
    }

    /// Takes a subscription away; returns how many this shard still has.
    pub fn unsubscribe(&mut self, alias: TrackAlias, link: u32) -> u32 {
        let Some(track) = self.by_alias.get_mut(&alias) else { return 0 };
        track.local.retain(|subscriber| subscriber.link != link);
        let left = track.local.len() as u32;
        if left == 0 && track.publisher.is_none() {
            self.by_alias.remove(&alias);
        }
        left
    }

    /// Notes how many subscribers another shard has; returns the track if it is published here.
    pub fn set_remote(&mut self, alias: TrackAlias, remote: Remote) -> Option<&Track> {
        let track = self.by_alias.get_mut(&alias).filter(|track| track.publisher.is_some())?;
        track.remote.retain(|other| other.shard != remote.shard);
        if remote.subscribers > 0 {
            track.remote.push(remote);
        }
        Some(track)
    }

    /// Forgets a track.
    pub fn end(&mut self, alias: TrackAlias) -> Option<Track> {
        self.by_alias.remove(&alias)
    }

    fn entry(&mut self, alias: TrackAlias, kind: TrackKind, room: RoomId) -> &mut Track {
        self.by_alias.entry(alias).or_insert_with(|| Track {
            kind,
            room,
            publisher: None,
            local: Vec::new(),
            remote: Vec::new(),
        })
    }
}
