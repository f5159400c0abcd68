//! The tracks of a room, and the figures of those that were.

use std::sync::Arc;

use supernode_proto::{
    control::{RelabelTrack, Subscribe, TrackAnnounced, Unsubscribe, client_message},
    object::TrackAlias,
};

use super::Room;
use crate::{
    CallEvent, SubscribeOptions,
    stats::TrackStats,
    sync::lock,
    tracks::track::{Arrival, LocalTrack, RemoteTrack, Route},
    wire::link::Link,
};

/// Announcements whose labels may open with the next epoch's keys.
const UNOPENED_MAX: usize = 256;
/// Tracks of others that we keep in mind: a room of the largest size needs fewer.
const REMOTE_TRACKS_MAX: usize = 1024;
/// Tracks that are gone and still have figures of their own.
const PAST_TRACKS_MAX: usize = 64;
/// Beyond them, figures of tracks that are gone are added to those of another of the same publisher and kind; so many of
/// those there may be.
const PAST_SUMS_MAX: usize = 1024;

/// A room's tracks.
#[derive(Default)]
pub(super) struct Tracks {
    local: Vec<Arc<LocalTrack>>,
    pub(super) remote: Vec<Arc<RemoteTrack>>,
    /// Figures of tracks that are gone.
    past: Vec<TrackStats>,
    /// Whether a track that is gone ended with its mark.
    pub(super) goodbye_heard: bool,
    unopened: Vec<(Arc<Link>, TrackAnnounced)>,
}

impl Room {
    pub(crate) fn handle_track_announced(self: &Arc<Self>, link: &Arc<Link>, announced: &TrackAnnounced) {
        let Some(alias) = TrackAlias::new(announced.alias) else { return };
        let kind = announced.kind();
        // Both are held to the end, so that nobody is recognized, and no keys come, between the look and what is kept.
        let state = lock(&self.state);
        let mut tracks = lock(&self.tracks);
        if state.own_number() == Some(announced.member) {
            return;
        }
        tracks.unopened.retain(|(_, known)| known.alias != announced.alias);
        // Whose leaf stands behind the number, and only if that leaf sealed the label.
        let publisher = state.member_at(announced.member);
        let opened = publisher.and_then(|publisher| {
            let opened = self.frame_keys.open_label(&publisher.device, kind, &announced.label);
            let opened = opened.inspect_err(|error| tracing::debug!(%error, "a track's label does not open yet"));
            Some((publisher, opened.ok()?))
        });
        let Some((publisher, info)) = opened else {
            // Its publisher has no place in the group yet, or seals it again when it sees us, or its keys are still on
            // their way to us.
            if tracks.unopened.len() < UNOPENED_MAX {
                tracks.unopened.push((link.clone(), announced.clone()));
            }
            return;
        };
        let known =
            tracks.remote.iter().find(|track| track.publisher == publisher && track.info.id == info.id).cloned();
        let track = match known {
            Some(track) => track,
            None if tracks.remote.len() >= REMOTE_TRACKS_MAX => return,
            None => {
                let track = Arc::new(RemoteTrack::new(Arc::downgrade(self), kind, info, publisher));
                tracks.remote.push(track.clone());
                track
            }
        };
        if track.route().is_some_and(|route| route.alias == alias && route.link.generation == link.generation) {
            return;
        }
        track.set_route(Some(Route { link: link.clone(), alias }));
        drop((state, tracks));
        if let Some(sink) = track.sink() {
            lock(&link.tracks).insert(alias, track.clone());
            link.send(subscribe(alias, &sink.options), None);
        }
        self.tell(CallEvent::TrackAnnounced(track));
    }

    /// With new keys: labels that did not open are tried again, and ours are sealed again for whoever has only these.
    pub(crate) fn announce_again(self: &Arc<Self>) {
        let mut tracks = lock(&self.tracks);
        let unopened = std::mem::take(&mut tracks.unopened);
        let local = tracks.local.clone();
        drop(tracks);
        for (link, announced) in unopened {
            self.handle_track_announced(&link, &announced);
        }
        for track in local {
            let Some(route) = track.route() else { continue };
            match self.seal_label(track.kind, &track.info) {
                Ok(label) => {
                    let (alias, mls_epoch) = (route.alias.value(), label.epoch);
                    let relabel = RelabelTrack { alias, label: label.bytes.into(), mls_epoch };
                    route.link.send(client_message::Body::RelabelTrack(relabel), None);
                }
                Err(error) => tracing::debug!(%error, "a label could not be sealed again"),
            }
        }
    }

    /// Tracks of those who have no place in the group any more are dropped.
    pub(super) fn retire_departed(&self) {
        let members: Vec<_> = lock(&self.state).group().members.iter().map(|member| member.device).collect();
        let mut tracks = lock(&self.tracks);
        let is_gone = |track: &&Arc<RemoteTrack>| !members.contains(&track.publisher.device);
        let gone: Vec<_> = tracks.remote.iter().filter(is_gone).cloned().collect();
        for track in &gone {
            if let Some(route) = track.unhook() {
                route.link.send(unsubscribe(route.alias), None);
            }
            tracks.goodbye_heard |= track.is_finished();
            tracks.retire(track);
        }
        drop(tracks);
        for track in gone {
            track.notify(Arrival::TrackEnded);
            track.set_sink(None);
        }
    }

    /// The connection is gone, and what hung on it.
    pub(super) fn lose_routes(&self) {
        let mut tracks = lock(&self.tracks);
        tracks.local.iter().for_each(|track| track.set_route(None));
        tracks.remote.iter().for_each(|track| drop(track.unhook()));
        tracks.unopened.clear();
    }

    /// It is over for us: subscriptions hear of it.
    pub(super) fn end_tracks(&self) {
        let mut tracks = lock(&self.tracks);
        tracks.unopened.clear();
        tracks.local.iter().for_each(|track| track.set_route(None));
        let remote = tracks.remote.clone();
        drop(tracks);
        for track in remote {
            track.unhook();
            track.notify(Arrival::TrackEnded);
            track.set_sink(None);
        }
    }

    pub(crate) fn handle_track_ended(&self, alias: TrackAlias) {
        let mut tracks = lock(&self.tracks);
        tracks.unopened.retain(|(_, known)| known.alias != alias.value());
        let ended = |track: &Arc<RemoteTrack>| track.route().is_some_and(|route| route.alias == alias);
        let Some(track) = tracks.remote.iter().find(|track| ended(track)).cloned() else { return };
        track.unhook();
        // Subscribers keep it: its publisher may come back with it.
        if track.sink().is_none() || track.is_finished() {
            tracks.goodbye_heard |= track.is_finished();
            tracks.retire(&track);
            track.notify(Arrival::TrackEnded);
            // Even if its queue was full, the subscription hears of the end when it has read it.
            track.set_sink(None);
        }
        drop(tracks);
        self.tell(CallEvent::TrackEnded(track));
    }

    /// The track of ours that has this alias now.
    pub(crate) fn local_track(&self, alias: TrackAlias) -> Option<Arc<LocalTrack>> {
        lock(&self.tracks).local.iter().find(|track| track.has_alias(alias)).cloned()
    }

    pub(crate) fn remote_tracks(&self) -> Vec<Arc<RemoteTrack>> {
        lock(&self.tracks).remote.clone()
    }

    pub(crate) fn local_tracks(&self) -> Vec<Arc<LocalTrack>> {
        lock(&self.tracks).local.clone()
    }

    pub(crate) fn add_local(&self, track: Arc<LocalTrack>) {
        lock(&self.tracks).local.push(track);
    }

    pub(crate) fn remove_local(&self, track: &Arc<LocalTrack>) {
        let mut tracks = lock(&self.tracks);
        tracks.local.retain(|kept| !Arc::ptr_eq(kept, track));
        add_past(&mut tracks.past, track.stats());
    }

    /// A subscription of it is gone: if the track itself is gone as well, its figures are all that is kept.
    pub(crate) fn release_remote(&self, track: &Arc<RemoteTrack>) {
        let mut tracks = lock(&self.tracks);
        if track.route().is_none() && self.end.get().is_none() {
            tracks.goodbye_heard |= track.is_finished();
            tracks.retire(track);
        }
    }

    /// Of all tracks there are and were.
    pub(crate) fn track_stats(&self) -> Vec<TrackStats> {
        let tracks = lock(&self.tracks);
        let local = tracks.local.iter().map(|track| track.stats());
        let remote = tracks.remote.iter().map(|track| track.stats());
        tracks.past.iter().cloned().chain(local).chain(remote).collect()
    }
}

impl Tracks {
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
