//! The hot path: which subscribers an object is for.
//!
//! A shard's table holds every track that is published or subscribed on it. One hash look-up by the track's alias
//! gives the subscribers; the registry is not asked, nothing is allocated, and a publisher's bytes go to every
//! subscriber as they came, because the alias is the same for all of them.

use std::{collections::HashMap, time::Duration};

use foldhash::fast::FixedState;
use supernode_proto::{
    control::{TrackDemand, TrackKind},
    identity::RoomId,
    limits::DATAGRAM_BYTES_MAX,
    object::{DatagramHeader, Flags, Layer, TrackAlias},
};

use super::ledger::{DropReason, RefuseReason};
use crate::core::{Address, MemberId, NodeId};

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
    /// Whether the subscriber looks at it.
    pub focus: bool,
    /// It is wanted only while its member is among so many most active ones; zero wants it always.
    pub speakers_max: u32,
    /// Which member the subscriber is.
    pub member: MemberId,
}

impl Subscriber {
    /// Why this subscriber does not want an object of this layer, if so.
    pub fn refuses(&self, layer: Layer) -> Option<DropReason> {
        let wanted = layer.temporal() <= self.temporal_layer_max && layer.spatial() <= self.spatial_layer_max;
        (!wanted && !crate::planted::planted!(LayersForgotten)).then_some(DropReason::LayerNotWanted)
    }
}

/// Another shard with subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Which.
    pub at: Address,
    /// How many they are and what they take.
    pub demand: Demand,
}

/// What a track carries, as its publisher said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carries {
    /// What kind of objects.
    pub kind: TrackKind,
    /// Where.
    pub room: RoomId,
    /// Whether they say how lively they are.
    pub activity: bool,
    /// Whose.
    pub member: MemberId,
}

/// Who takes a track, and what of it. Without subscribers, all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// How many subscribe.
    pub subscribers: u32,
    /// How many of them are sent it now: the ladder may leave a whole picture out.
    pub sent: u32,
    /// Highest temporal layer that any of these takes.
    pub temporal_layer_max: u8,
    /// Highest spatial layer.
    pub spatial_layer_max: u8,
    /// What the widest path among these is known not to exceed, in bits a second; zero if one is not known to be bound.
    pub bits_per_second: u64,
}

impl Demand {
    /// Of both together.
    pub fn and(self, other: Self) -> Self {
        let bits_per_second = match (self.sent, other.sent) {
            (0, _) => other.bits_per_second,
            (_, 0) => self.bits_per_second,
            // A path that is not known to be bound is wider than one that is.
            _ if self.bits_per_second == 0 || other.bits_per_second == 0 => 0,
            _ => self.bits_per_second.max(other.bits_per_second),
        };
        Self {
            subscribers: self.subscribers + other.subscribers,
            sent: self.sent + other.sent,
            temporal_layer_max: self.temporal_layer_max.max(other.temporal_layer_max),
            spatial_layer_max: self.spatial_layer_max.max(other.spatial_layer_max),
            bits_per_second,
        }
    }

    pub(crate) fn event(self, alias: TrackAlias) -> TrackDemand {
        TrackDemand {
            alias: alias.value(),
            subscribers: self.sent,
            temporal_layer_max: self.temporal_layer_max.into(),
            spatial_layer_max: self.spatial_layer_max.into(),
            bits_per_second: self.bits_per_second,
        }
    }
}

/// A track as one shard knows it.
#[derive(Debug)]
pub struct Track {
    /// What it carries, and where.
    pub carries: Carries,
    /// Its publisher's connection, on the publisher's shard only.
    pub publisher: Option<u32>,
    /// Subscribers on this shard.
    pub local: Vec<Subscriber>,
    /// What they took when it was told last.
    pub demand: Demand,
    /// Shards with more, each of which is sent one copy of an object: on the publisher's shard, and on the one that gathers
    /// what its node takes of a track of another.
    pub remote: Vec<Remote>,
    /// Whether it is of another node, and this shard gathers what its own takes of it.
    pub gathered: bool,
}

impl Track {
    /// Only a track that says so may show how lively it is: nobody tells the relay by mistake.
    ///
    /// # Errors
    /// [`RefuseReason::Malformed`].
    pub fn check_activity(&self, flags: Flags) -> Result<(), RefuseReason> {
        if self.carries.activity || flags.activity() == 0 { Ok(()) } else { Err(RefuseReason::Malformed) }
    }

    fn set_remote(&mut self, remote: Remote) {
        self.remote.retain(|other| other.at != remote.at);
        if remote.demand.subscribers > 0 {
            self.remote.push(remote);
        }
    }

    /// What subscribers on other shards take, as the publisher's shard knows it.
    pub fn remote_demand(&self) -> Demand {
        self.remote.iter().fold(Demand::default(), |sum, remote| sum.and(remote.demand))
    }

    /// Whether it is a picture.
    pub fn is_visual(&self) -> bool {
        matches!(self.carries.kind, TrackKind::Video | TrackKind::Screen)
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
        track.check_activity(header.visible.flags)?;
        Ok((header, track))
    }

    /// The track, if connection `link` publishes it.
    ///
    /// # Errors
    /// [`RefuseReason::UnknownTrack`].
    pub fn admit(&self, link: u32, alias: TrackAlias) -> Result<&Track, RefuseReason> {
        let is_own = |track: &&Track| track.publisher == Some(link) || crate::planted::planted!(ForeignAlias);
        self.by_alias.get(&alias).filter(is_own).ok_or(RefuseReason::UnknownTrack)
    }

    /// Notes what this shard's subscribers take; returns whether that is news.
    pub fn note_demand(&mut self, alias: TrackAlias, demand: Demand) -> bool {
        let track = self.by_alias.get_mut(&alias);
        track.is_some_and(|track| std::mem::replace(&mut track.demand, demand) != demand)
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
    pub fn publish(&mut self, alias: TrackAlias, carries: Carries, link: u32) {
        self.entry(alias, carries).publisher = Some(link);
    }

    /// Enters a subscription. A second one of the same link replaces the first.
    pub fn subscribe(&mut self, alias: TrackAlias, carries: Carries, subscriber: Subscriber) {
        let track = self.entry(alias, carries);
        track.local.retain(|earlier| earlier.link != subscriber.link);
        track.local.push(subscriber);
    }

    /// Takes a subscription away; returns what the track carried if nobody here publishes it or subscribes to it any more.
    pub fn unsubscribe(&mut self, alias: TrackAlias, link: u32) -> Option<Carries> {
        let track = self.by_alias.get_mut(&alias)?;
        track.local.retain(|subscriber| subscriber.link != link);
        if !track.local.is_empty() || track.publisher.is_some() {
            return None;
        }
        let carries = track.carries;
        if !track.gathered {
            self.by_alias.remove(&alias);
        }
        Some(carries)
    }

    /// Notes what another shard takes; returns the track if it is published here.
    pub fn set_remote(&mut self, alias: TrackAlias, remote: Remote) -> Option<&Track> {
        let track = self.by_alias.get_mut(&alias).filter(|track| track.publisher.is_some())?;
        track.set_remote(remote);
        Some(track)
    }

    /// Notes what a shard of this node takes of a track of another, which this shard gathers.
    pub fn gather(&mut self, alias: TrackAlias, carries: Carries, remote: Remote) {
        let track = self.entry(alias, carries);
        track.gathered = true;
        track.set_remote(remote);
    }

    /// A node takes nothing of a track any more; returns its publisher's connection.
    pub fn forget_node(&mut self, alias: TrackAlias, node: NodeId) -> Option<u32> {
        let track = self.by_alias.get_mut(&alias)?;
        track.remote.retain(|other| other.at.node != node);
        track.publisher
    }

    /// Nobody at this node takes it any more.
    pub fn stop_gathering(&mut self, alias: TrackAlias) {
        if let Some(track) = self.by_alias.get_mut(&alias) {
            track.gathered = false;
            if track.local.is_empty() && track.publisher.is_none() {
                self.by_alias.remove(&alias);
            }
        }
    }

    /// Forgets a track.
    pub fn end(&mut self, alias: TrackAlias) -> Option<Track> {
        self.by_alias.remove(&alias)
    }

    fn entry(&mut self, alias: TrackAlias, carries: Carries) -> &mut Track {
        self.by_alias.entry(alias).or_insert_with(|| Track {
            carries,
            publisher: None,
            local: Vec::new(),
            demand: Demand::default(),
            remote: Vec::new(),
            gathered: false,
        })
    }
}
