//! The tracks of a room, as [`supernode_calls::room::Tracks`] knows them, and the figures of those that were.

use std::sync::Arc;

use supernode_calls::room::{LocalId, Route as Place, TrackWish};
use supernode_e2ee::TrackInfo;
use supernode_proto::{
    control::{Subscribe, TrackAnnounced, TrackKind, client_message},
    object::TrackAlias,
};

use super::Room;
use crate::{
    CallEvent, Error,
    room::Member,
    stats::TrackStats,
    sync::lock,
    tracks::track::{Arrival, LocalTrack, RemoteTrack, Route, Sink},
    wire::link::Link,
};

/// Tracks that are gone and still have figures of their own.
const PAST_TRACKS_MAX: usize = 64;
/// Beyond them, figures of tracks that are gone are added to those of another of the same publisher and kind; so many of
/// those there may be.
const PAST_SUMS_MAX: usize = 1024;

type Wish = TrackWish<Arc<LocalTrack>, Arc<RemoteTrack>>;

/// A room's tracks.
#[derive(Default)]
pub(super) struct Tracks {
    known: supernode_calls::room::Tracks<Arc<LocalTrack>, Arc<RemoteTrack>>,
    /// The connection that they are on.
    link: Option<Arc<Link>>,
    /// Figures of tracks that are gone.
    past: Vec<TrackStats>,
}

impl Room {
    pub(crate) fn handle_track_announced(self: &Arc<Self>, link: &Arc<Link>, announced: &TrackAnnounced) {
        // Both are held to the end, so that nobody is recognized, and no keys come, between the look and what is kept.
        let state = lock(&self.state);
        let mut tracks = lock(&self.tracks);
        tracks.link = Some(link.clone());
        let make = self.remote_track();
        match tracks.known.handle_announced(link.generation, announced, &state, &self.frame_keys, make) {
            Ok(wishes) => self.grant_of_tracks(&mut tracks, wishes),
            Err(error) => tracing::debug!(%error, "a track's label does not open yet"),
        }
    }

    fn remote_track(self: &Arc<Self>) -> impl Fn(TrackKind, TrackInfo, Member) -> Arc<RemoteTrack> + use<> {
        let room = Arc::downgrade(self);
        move |kind, info, publisher| Arc::new(RemoteTrack::new(room.clone(), kind, info, publisher))
    }

    /// With new keys: labels that did not open are tried again, and ours are sealed again for whoever has only these.
    pub(super) fn announce_again(self: &Arc<Self>) {
        let state = lock(&self.state);
        let mut tracks = lock(&self.tracks);
        let opened = tracks.known.open_again(&state, &self.frame_keys, self.remote_track());
        drop(state);
        self.grant_of_tracks(&mut tracks, opened);
        match tracks.known.relabel(&self.frame_keys) {
            Ok(wishes) => self.grant_of_tracks(&mut tracks, wishes),
            Err(error) => tracing::debug!(%error, "a label could not be sealed again"),
        }
    }

    /// Tracks of those who have no place in the group any more are dropped.
    pub(super) fn retire_departed(&self) {
        let state = lock(&self.state);
        let mut tracks = lock(&self.tracks);
        let wishes = tracks.known.retire_departed(&state);
        drop(state);
        self.grant_of_tracks(&mut tracks, wishes);
    }

    /// The connection is gone, and what hung on it.
    pub(super) fn lose_routes(&self) {
        let mut tracks = lock(&self.tracks);
        let wishes = tracks.known.handle_lost();
        self.grant_of_tracks(&mut tracks, wishes);
        tracks.link = None;
    }

    /// It is over for us: subscriptions hear of it.
    pub(super) fn end_tracks(&self) {
        let mut tracks = lock(&self.tracks);
        let wishes = tracks.known.end();
        self.grant_of_tracks(&mut tracks, wishes);
    }

    pub(crate) fn handle_track_ended(&self, alias: TrackAlias) {
        let mut tracks = lock(&self.tracks);
        let wishes = tracks.known.handle_ended(alias);
        self.grant_of_tracks(&mut tracks, wishes);
    }

    /// Its publisher has marked its end.
    pub(crate) fn handle_track_finished(&self, track: &RemoteTrack) {
        lock(&self.tracks).known.handle_finished(&track.id());
    }

    /// Does what is to be done for tracks, in one go with what led to it.
    fn grant_of_tracks(&self, tracks: &mut Tracks, wishes: Vec<Wish>) {
        let link = tracks.link.clone();
        let on_link = |place: Option<Place>| {
            let place = place?;
            let link = link.clone().filter(|link| link.generation == place.connection)?;
            Some(Route { link, alias: place.alias })
        };
        for wish in wishes {
            match wish {
                Wish::Sent(track, place) => track.set_route(on_link(place)),
                Wish::Received(track, None) => {
                    track.unhook();
                    track.set_route(None);
                }
                Wish::Received(track, place) => track.set_route(on_link(place)),
                Wish::Hook(track) => track.hook(),
                Wish::Unhook(track) => track.unhook(),
                Wish::Send(request) => {
                    if let Some(link) = &link {
                        link.send(*request, None);
                    }
                }
                Wish::Forget(track) => add_past(&mut tracks.past, track.stats()),
                Wish::Close(track) => {
                    track.notify(Arrival::TrackEnded);
                    // Even if its queue was full, the subscription hears of the end when it has read it.
                    track.set_sink(None);
                }
                Wish::Announced(track) => self.tell(CallEvent::TrackAnnounced(track)),
                Wish::Ended(track) => self.tell(CallEvent::TrackEnded(track)),
            }
        }
    }

    /// The track of ours that has this alias now.
    pub(crate) fn local_track(&self, alias: TrackAlias) -> Option<Arc<LocalTrack>> {
        lock(&self.tracks).known.local_at(alias).cloned()
    }

    pub(crate) fn remote_tracks(&self) -> Vec<Arc<RemoteTrack>> {
        lock(&self.tracks).known.remote_handles().cloned().collect()
    }

    /// Ours, to be published again.
    pub(crate) fn local_tracks(&self) -> Vec<LocalId> {
        lock(&self.tracks).known.local_ids()
    }

    pub(crate) fn add_local(&self, kind: TrackKind, info: TrackInfo, activity: bool) -> (LocalId, Arc<LocalTrack>) {
        let track = Arc::new(LocalTrack::new(kind, info.clone(), activity));
        (lock(&self.tracks).known.add(kind, info, activity, track.clone()), track)
    }

    pub(crate) fn remove_local(&self, id: LocalId, track: &LocalTrack) {
        let mut tracks = lock(&self.tracks);
        tracks.known.remove(id);
        add_past(&mut tracks.past, track.stats());
    }

    /// The request that publishes a track of ours, if it is still there.
    pub(crate) fn publish_request(&self, id: LocalId) -> Result<Option<client_message::Body>, Error> {
        let state = lock(&self.state);
        Ok(lock(&self.tracks).known.publish_request(id, &state, &self.frame_keys)?)
    }

    /// The relay has taken a track of ours.
    pub(crate) fn handle_published(&self, id: LocalId, link: &Arc<Link>, alias: u64) {
        let state = lock(&self.state);
        let mut tracks = lock(&self.tracks);
        tracks.link = Some(link.clone());
        let place = TrackAlias::new(alias).map(|alias| Place { connection: link.generation, alias });
        let wishes = tracks.known.handle_published(id, place, &state, &self.frame_keys);
        drop(state);
        self.grant_of_tracks(&mut tracks, wishes);
    }

    /// A subscription of a track: where to ask for its objects, and how. Without, its publisher is away.
    pub(crate) fn subscribe(
        &self,
        track: &Arc<RemoteTrack>,
        terms: Subscribe,
        sink: Sink,
    ) -> Result<Option<(Arc<Link>, client_message::Body)>, Error> {
        let mut tracks = lock(&self.tracks);
        let asked = tracks.known.subscribe(&track.id(), terms);
        let Some(asked) = asked.ok().filter(|_| track.sink().is_none()) else {
            return Err(Error::State("the track is subscribed to already"));
        };
        track.set_sink(Some(sink));
        track.hook();
        Ok(asked.and_then(|(_, request)| Some((tracks.link.clone()?, request))))
    }

    /// A subscription of it is gone.
    pub(crate) fn unsubscribe(&self, track: &RemoteTrack) {
        let mut tracks = lock(&self.tracks);
        track.set_sink(None);
        let wishes = tracks.known.unsubscribe(&track.id());
        self.grant_of_tracks(&mut tracks, wishes);
    }

    /// Whether all others have ended what they sent, and there was something.
    pub(super) fn said_goodbye(&self) -> bool {
        lock(&self.tracks).known.said_goodbye()
    }

    /// Of all tracks there are and were.
    pub(crate) fn track_stats(&self) -> Vec<TrackStats> {
        let tracks = lock(&self.tracks);
        let local = tracks.known.local_handles().map(|track| track.stats());
        let remote = tracks.known.remote_handles().map(|track| track.stats());
        tracks.past.iter().cloned().chain(local).chain(remote).collect()
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
