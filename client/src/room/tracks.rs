//! The tracks of a room, and the figures of those that were.

use std::sync::Arc;

use supernode_proto::{
    control::{RelabelTrack, Subscribe, TrackAnnounced, Unsubscribe, client_message},
    object::TrackAlias,
};

use super::{Connection, Room, State, UNOPENED_MAX};
use crate::{
    CallEvent, SubscribeOptions,
    stats::TrackStats,
    sync::lock,
    tracks::track::{Arrival, LocalTrack, RemoteTrack, Route},
    wire::link::Link,
};

/// Tracks of others that we keep in mind: a room of the largest size needs fewer.
const REMOTE_TRACKS_MAX: usize = 1024;
/// Tracks that are gone and still have figures of their own.
const PAST_TRACKS_MAX: usize = 64;
/// Beyond them, figures of tracks that are gone are added to those of another of the same publisher and kind; so many of
/// those there may be.
const PAST_SUMS_MAX: usize = 1024;

impl Room {
    pub(crate) fn handle_track_announced(self: &Arc<Self>, link: &Arc<Link>, announced: &TrackAnnounced) {
        let Some(alias) = TrackAlias::new(announced.alias) else { return };
        let kind = announced.kind();
        let mut state = lock(&self.state);
        if state.own_member == Some(announced.member) {
            return;
        }
        state.unopened.retain(|(_, known)| known.alias != announced.alias);
        // Whose leaf stands behind the number, and only if that leaf sealed the label.
        let publisher = state.connections.get(&announced.member).and_then(Connection::member);
        let opened = publisher.and_then(|publisher| {
            let opened = self.frame_keys.open_label(&publisher.device, kind, &announced.label);
            let opened = opened.inspect_err(|error| tracing::debug!(%error, "a track's label does not open yet"));
            Some((publisher, opened.ok()?))
        });
        let Some((publisher, info)) = opened else {
            // Its publisher has no place in the group yet, or seals it again when it sees us, or its keys are still on
            // their way to us.
            if state.unopened.len() < UNOPENED_MAX {
                state.unopened.push((link.clone(), announced.clone()));
            }
            return;
        };
        let known = state.remote.iter().find(|track| track.publisher == publisher && track.info.id == info.id).cloned();
        let track = match known {
            Some(track) => track,
            None if state.remote.len() >= REMOTE_TRACKS_MAX => return,
            None => {
                let track = Arc::new(RemoteTrack::new(Arc::downgrade(self), kind, info, publisher));
                state.remote.push(track.clone());
                track
            }
        };
        if track.route().is_some_and(|route| route.alias == alias && route.link.generation == link.generation) {
            return;
        }
        track.set_route(Some(Route { link: link.clone(), alias }));
        drop(state);
        if let Some(sink) = track.sink() {
            lock(&link.tracks).insert(alias, track.clone());
            link.send(subscribe(alias, &sink.options), None);
        }
        self.tell(CallEvent::TrackAnnounced(track));
    }

    /// With new keys: labels that did not open are tried again, and ours are sealed again for whoever has only these.
    pub(crate) fn announce_again(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let unopened = std::mem::take(&mut state.unopened);
        let local = state.local.clone();
        drop(state);
        for (link, announced) in unopened {
            self.handle_track_announced(&link, &announced);
        }
        for track in local {
            let Some(route) = track.route() else { continue };
            match self.seal_label(track.kind, &track.info) {
                Ok(label) => {
                    let relabel = RelabelTrack { alias: route.alias.value(), label: label.into() };
                    route.link.send(client_message::Body::RelabelTrack(relabel), None);
                }
                Err(error) => tracing::debug!(%error, "a label could not be sealed again"),
            }
        }
    }

    /// Tracks of those who have no place in the group any more are dropped.
    pub(super) fn retire_departed(&self) {
        let mut state = lock(&self.state);
        let members: Vec<_> = state.group.members.iter().map(|member| member.device).collect();
        let is_gone = |track: &&Arc<RemoteTrack>| !members.contains(&track.publisher.device);
        let gone: Vec<_> = state.remote.iter().filter(is_gone).cloned().collect();
        for track in &gone {
            if let Some(route) = track.route() {
                lock(&route.link.tracks).remove(&route.alias);
                route.link.send(unsubscribe(route.alias), None);
            }
            track.set_route(None);
            state.goodbye_heard |= track.is_finished();
            state.retire(track);
        }
        drop(state);
        for track in gone {
            track.notify(Arrival::TrackEnded);
            track.set_sink(None);
        }
    }

    pub(crate) fn handle_track_ended(&self, alias: TrackAlias) {
        let mut state = lock(&self.state);
        state.unopened.retain(|(_, known)| known.alias != alias.value());
        let ended = |track: &Arc<RemoteTrack>| track.route().is_some_and(|route| route.alias == alias);
        let Some(track) = state.remote.iter().find(|track| ended(track)).cloned() else { return };
        let Some(route) = track.route() else { return };
        lock(&route.link.tracks).remove(&alias);
        track.set_route(None);
        // Subscribers keep it: its publisher may come back with it.
        if track.sink().is_none() || track.is_finished() {
            state.goodbye_heard |= track.is_finished();
            state.retire(&track);
            track.notify(Arrival::TrackEnded);
            // Even if its queue was full, the subscription hears of the end when it has read it.
            track.set_sink(None);
        }
        drop(state);
        self.tell(CallEvent::TrackEnded(track));
    }

    /// The track of ours that has this alias now.
    pub(crate) fn local_track(&self, alias: TrackAlias) -> Option<Arc<LocalTrack>> {
        lock(&self.state).local.iter().find(|track| track.has_alias(alias)).cloned()
    }

    pub(crate) fn remote_tracks(&self) -> Vec<Arc<RemoteTrack>> {
        lock(&self.state).remote.clone()
    }

    pub(crate) fn local_tracks(&self) -> Vec<Arc<LocalTrack>> {
        lock(&self.state).local.clone()
    }

    pub(crate) fn add_local(&self, track: Arc<LocalTrack>) {
        lock(&self.state).local.push(track);
    }

    pub(crate) fn remove_local(&self, track: &Arc<LocalTrack>) {
        let mut state = lock(&self.state);
        state.local.retain(|kept| !Arc::ptr_eq(kept, track));
        add_past(&mut state.past, track.stats());
    }

    /// A subscription of it is gone: if the track itself is gone as well, its figures are all that is kept.
    pub(crate) fn release_remote(&self, track: &Arc<RemoteTrack>) {
        let mut state = lock(&self.state);
        if track.route().is_none() && self.end.get().is_none() {
            state.goodbye_heard |= track.is_finished();
            state.retire(track);
        }
    }

    /// Of all tracks there are and were.
    pub(crate) fn track_stats(&self) -> Vec<TrackStats> {
        let state = lock(&self.state);
        let local = state.local.iter().map(|track| track.stats());
        let remote = state.remote.iter().map(|track| track.stats());
        state.past.iter().cloned().chain(local).chain(remote).collect()
    }
}

impl State {
    /// Forgets a track but for its figures.
    fn retire(&mut self, track: &Arc<RemoteTrack>) {
        let before = self.remote.len();
        self.remote.retain(|kept| !Arc::ptr_eq(kept, track));
        if self.remote.len() < before {
            add_past(&mut self.past, track.stats());
        }
    }
}

/// Keeps the figures of a track; beyond a bound, added to those of another of its kind.
fn add_past(past: &mut Vec<TrackStats>, stats: TrackStats) {
    let stats = TrackStats { demand: None, ..stats };
    if past.len() < PAST_TRACKS_MAX {
        return past.push(stats);
    }
    let alike = |kept: &&mut TrackStats| {
        (kept.direction, kept.publisher, kept.kind) == (stats.direction, stats.publisher, stats.kind)
    };
    let is_full = past.len() >= PAST_SUMS_MAX;
    match past.iter_mut().find(alike) {
        Some(kept) => kept.absorb(&stats),
        None if is_full => {}
        None => past.push(stats),
    }
}

/// The request for a track's objects.
pub(crate) fn subscribe(alias: TrackAlias, options: &SubscribeOptions) -> client_message::Body {
    client_message::Body::Subscribe(Subscribe {
        alias: alias.value(),
        temporal_layer_max: options.temporal_layer_max.into(),
        spatial_layer_max: options.spatial_layer_max.into(),
        max_age_ms: options.max_age_ms,
        focus: options.focus,
        speakers_max: options.speakers_max,
    })
}

fn unsubscribe(alias: TrackAlias) -> client_message::Body {
    client_message::Body::Unsubscribe(Unsubscribe { alias: alias.value() })
}
