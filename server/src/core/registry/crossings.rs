//! Tracks that are published at one node and subscribed to at another: who takes what of them.
//!
//! One shard of the subscribers' node gathers what all of them take of a track ([`Homes::of_track`](crate::core::Homes::of_track))
//! and says it to the publisher's shard as its own. So an object comes to the node once, and the gathering shard passes it on to
//! the others as a publisher's does. It passes nothing on to another node: there is one hop.

use supernode_proto::{control::relay_message::Body, object::TrackAlias};

use super::tracks::node_of;
use crate::core::{
    Address, ControlMail, Errand, NodeId, Outbox, SessionId, ShardCore,
    directory::TrackEntry,
    forwarding::forward::{Carries, Demand, Remote, Track},
};

/// A track of this node that another takes, or one of another that this node takes and this shard gathers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crossing {
    /// Where it is published.
    publisher: Address,
    /// What is taken of it, as it was said last to the publisher's shard.
    told: Demand,
}

impl ShardCore {
    /// Whether a track is published at another node.
    pub(super) fn is_of_another_node(&self, alias: TrackAlias) -> bool {
        node_of(alias) != Some(self.at.node)
    }

    /// Says what this shard's subscribers take of a track, where that is gathered.
    pub(super) fn tell_interest(
        &self,
        alias: TrackAlias,
        publisher: Address,
        demand: Demand,
        fresh: Option<SessionId>,
        outbox: &mut Outbox,
    ) {
        let to = if publisher.node == self.at.node { publisher } else { outbox.homes().of_track(alias) };
        outbox.mail(to, ControlMail::Interest { alias, from: self.at, demand, fresh });
    }

    /// A shard of this node takes more or less of a track of another: the publisher is told if all of them together do.
    pub(super) fn gather(
        &mut self,
        alias: TrackAlias,
        from: Address,
        demand: Demand,
        fresh: Option<SessionId>,
        outbox: &mut Outbox,
    ) {
        let known = self.directory.tracks.get(&alias).map(|entry| {
            let TrackEntry { room, kind, activity, member, publisher, .. } = *entry;
            (publisher.at, Carries { kind, room, activity, member })
        });
        let Some((publisher, carries)) = known.filter(|(at, _)| at.node != self.at.node) else {
            if from != self.at {
                outbox.mail(from, ControlMail::TrackEnded { alias });
            }
            return self.track_ended(alias, outbox);
        };
        // This shard's own subscribers are in its table.
        let demand = if from == self.at { Demand::default() } else { demand };
        self.tracks.gather(alias, carries, Remote { at: from, demand });
        let all = self.demand_here(alias);
        let crossing = (publisher.node, alias);
        let told = self.crossings.get(&crossing).map_or(Demand::default(), |crossing| crossing.told);
        if all.subscribers == 0 {
            self.crossings.remove(&crossing);
            self.tracks.stop_gathering(alias);
            self.cache.forget(alias);
        } else {
            self.crossings.insert(crossing, Crossing { publisher, told: all });
        }
        // The first one at this node is new to the publisher's as well; the others have what it was sent.
        let first = fresh.filter(|_| told.subscribers == 0);
        if told != all || first.is_some() {
            let from = self.at;
            outbox.mail(publisher, ControlMail::Interest { alias, from, demand: all, fresh: first });
        }
        let is_picture = self.tracks.track(alias).is_some_and(Track::is_visual);
        if let Some(session) = fresh.filter(|_| first.is_none() && is_picture) {
            match self.cache.newest(alias) {
                Some(_) => outbox.errand(Errand::SendNewestGroup { session, via: from, alias }),
                None => outbox.mail(publisher, ControlMail::Keyframe { alias }),
            }
        }
    }

    /// On the publisher's shard: another node takes so much of a track now.
    pub(super) fn note_taker(&mut self, alias: TrackAlias, at: Address, demand: Demand, outbox: &mut Outbox) {
        if demand.subscribers > 0 {
            self.crossings.insert((at.node, alias), Crossing { publisher: self.at, told: demand });
        } else if self.crossings.remove(&(at.node, alias)).is_some() {
            outbox.errand(Errand::EndAbroad { at, alias });
        }
    }

    /// A track is over: other nodes are sent nothing more of it, and shards that this one gathered for are told.
    pub(super) fn end_crossings(&mut self, alias: TrackAlias, track: &Track, outbox: &mut Outbox) {
        let here = self.at.node;
        for other in &track.remote {
            if other.at.node != here {
                self.crossings.remove(&(other.at.node, alias));
                outbox.errand(Errand::EndAbroad { at: other.at, alias });
            } else if track.gathered {
                outbox.mail(other.at, ControlMail::TrackEnded { alias });
            }
        }
        let Some(node) = node_of(alias).filter(|node| *node != here) else { return };
        // The publisher's shard may not know: it may be over for this node only.
        let to = match self.crossings.remove(&(node, alias)) {
            Some(Crossing { publisher, told }) => Some(publisher).filter(|_| told.subscribers > 0),
            None => Some(outbox.homes().of_track(alias)).filter(|_| !track.gathered),
        };
        if let Some(to) = to {
            outbox.mail(to, nothing(alias, self.at));
        }
    }

    /// A node can be reached again: it is told what this one takes of its tracks, and asked for pictures anew.
    pub(crate) fn take_again(&mut self, node: NodeId, outbox: &mut Outbox) {
        for alias in self.crossings_with(node) {
            let publisher = self.crossings.get(&(node, alias)).map(|crossing| crossing.publisher);
            let Some(track) = self.tracks.track(alias).filter(|track| track.gathered) else { continue };
            let (Some(publisher), is_picture, from) = (publisher, track.is_visual(), self.at) else { continue };
            let demand = self.demand_here(alias);
            self.crossings.insert((node, alias), Crossing { publisher, told: demand });
            outbox.mail(publisher, ControlMail::Interest { alias, from, demand, fresh: None });
            if is_picture {
                outbox.mail(publisher, ControlMail::Keyframe { alias });
            }
        }
    }

    /// A node is gone: it takes nothing of this one's tracks any more, and publishers are told. What this node takes of its
    /// tracks stays, until they are over or it is back.
    pub(crate) fn forget_taker(&mut self, node: NodeId, outbox: &mut Outbox) {
        for alias in self.crossings_with(node) {
            if node_of(alias) == Some(node) {
                // It is told everything anew.
                if let Some(crossing) = self.crossings.get_mut(&(node, alias)) {
                    crossing.told = Demand::default();
                }
                continue;
            }
            self.crossings.remove(&(node, alias));
            let Some(link) = self.tracks.forget_node(alias, node) else { continue };
            let demand = self.demand_here(alias);
            if demand.subscribers == 0 {
                self.cache.forget(alias);
            }
            if let Some(publisher) = self.id_of(link) {
                outbox.event(publisher, Body::TrackDemand(demand.event(alias)));
            }
        }
    }

    fn crossings_with(&self, node: NodeId) -> Vec<TrackAlias> {
        let Some(first) = TrackAlias::new(0) else { return Vec::new() };
        let with = self.crossings.range((node, first)..).take_while(|((other, _), _)| *other == node);
        with.map(|((_, alias), _)| *alias).collect()
    }

    /// What this shard's subscribers and those behind it take of a track.
    fn demand_here(&self, alias: TrackAlias) -> Demand {
        let remote = self.tracks.track(alias).map(Track::remote_demand).unwrap_or_default();
        self.local_demand(alias).and(remote)
    }
}

/// A shard takes nothing of a track any more.
pub(super) fn nothing(alias: TrackAlias, from: Address) -> ControlMail {
    ControlMail::Interest { alias, from, demand: Demand::default(), fresh: None }
}
