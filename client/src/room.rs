//! A room as this device knows it: its MLS group, who is in it, and its tracks. Everything here happens in the order
//! in which the relay's messages came; nothing here waits.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_e2ee::{Change, Group, MediaOpener, MediaSealer, Processed, TrackId, TrackInfo};
use supernode_proto::{
    control::{JoinRoom, MemberJoined, MlsDelivery, RoomJoined, Subscribe, TrackAnnounced, TrackKind, client_message},
    identity::{DeviceKey, EXPORTER_BYTES, IdentityKey, RoomId},
    object::{TrackAlias, Visible},
};
use tokio::sync::{broadcast, watch};

use crate::{
    CallEvent, Error,
    error::CallEnd,
    frame::{FrameTimes, unix_s},
    link::Link,
    stats::TrackStats,
    sync::lock,
    track::{Arrival, LocalTrack, RemoteTrack, Route},
};

/// Objects whose keys are not here yet: a few hundred milliseconds of a call.
const EARLY_MAX: usize = 512;
const EARLY_AGE_MAX: Duration = Duration::from_secs(3);
/// Events that a slow listener may lag behind.
const EVENTS_MAX: usize = 256;
/// Tracks of others that we keep in mind: a room of the largest size needs fewer.
const REMOTE_TRACKS_MAX: usize = 1024;
/// Tracks that are gone and still have figures of their own.
const PAST_TRACKS_MAX: usize = 64;

/// Somebody in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub identity: IdentityKey,
    /// On which device.
    pub device: DeviceKey,
}

/// A room.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) events: broadcast::Sender<CallEvent>,
    /// Told after every change of what the state says.
    pub(crate) changed: watch::Sender<()>,
    state: Mutex<State>,
}

struct State {
    group: Group,
    sealer: MediaSealer,
    opener: MediaOpener,
    /// Identities that may be in the group.
    expected: HashSet<IdentityKey>,
    own_member: Option<u32>,
    members: BTreeMap<u32, Member>,
    met_others: bool,
    alone_since: Option<Instant>,
    local: Vec<Arc<LocalTrack>>,
    remote: Vec<Arc<RemoteTrack>>,
    /// Figures of tracks that are gone.
    past: Vec<TrackStats>,
    /// Whether a track that is gone ended with its mark.
    goodbye_heard: bool,
    early: VecDeque<Early>,
    end: Option<CallEnd>,
}

/// An object that came before the keys of its epoch.
struct Early {
    at: Instant,
    track: Arc<RemoteTrack>,
    visible: Visible,
    sealed: Bytes,
    wire_bytes: usize,
}

/// What became of a sealed object.
pub(crate) enum Opened {
    Payload(Vec<u8>),
    /// Its keys may still come: the room keeps it for a while.
    Later,
    Bad,
}

impl Room {
    /// A room whose group holds exactly those who may be in it.
    pub(crate) fn new(group: Group) -> Result<Arc<Self>, Error> {
        let keys = group.epoch_keys()?;
        let state = State {
            sealer: MediaSealer::new(&keys)?,
            opener: MediaOpener::new(&keys)?,
            expected: group.members().iter().map(|member| member.identity).collect(),
            own_member: None,
            members: BTreeMap::new(),
            met_others: false,
            alone_since: None,
            local: Vec::new(),
            remote: Vec::new(),
            past: Vec::new(),
            goodbye_heard: false,
            early: VecDeque::new(),
            end: None,
            group,
        };
        Ok(Arc::new(Self {
            id: state.group.room(),
            events: broadcast::Sender::new(EVENTS_MAX),
            changed: watch::Sender::new(()),
            state: Mutex::new(state),
        }))
    }

    /// The request that lets us in on this connection.
    pub(crate) fn join_request(
        &self,
        exporter: &[u8; EXPORTER_BYTES],
        device: &DeviceKey,
    ) -> Result<client_message::Body, Error> {
        let secret = lock(&self.state).group.join_secret()?;
        Ok(client_message::Body::JoinRoom(JoinRoom {
            room: Bytes::copy_from_slice(&self.id.0),
            join_key: Bytes::copy_from_slice(secret.public().as_bytes()),
            proof: Bytes::copy_from_slice(&secret.sign(&self.id, exporter, device)),
        }))
    }

    /// We are in: for the first time, or again.
    pub(crate) fn handle_joined(&self, joined: &RoomJoined) {
        let mut state = lock(&self.state);
        let again = state.own_member.is_some();
        // Zero: the room was opened anew, or never saw a commit. Anything else that is not ours means that the group
        // moved on without us, and what it says now does not open.
        if joined.mls_epoch != 0 && joined.mls_epoch != state.group.epoch() {
            drop(state);
            return self.end_with(CallEnd::MissedKeys);
        }
        state.own_member = Some(joined.member);
        state.members.clear();
        drop(state);
        joined.members.iter().for_each(|member| self.handle_member_joined(member));
        if again {
            self.tell(CallEvent::Resumed);
        }
        self.changed.send_replace(());
    }

    /// The connection is gone; what hung on it goes with it.
    pub(crate) fn handle_link_lost(&self) {
        let state = lock(&self.state);
        state.local.iter().for_each(|track| track.set_route(None));
        state.remote.iter().for_each(|track| track.set_route(None));
        drop(state);
        self.tell(CallEvent::Interrupted);
    }

    pub(crate) fn handle_member_joined(&self, joined: &MemberJoined) {
        let (Ok(identity), Ok(device)) =
            (IdentityKey::from_slice(&joined.identity), DeviceKey::from_slice(&joined.device))
        else {
            return;
        };
        let member = Member { identity, device };
        let mut state = lock(&self.state);
        if state.own_member == Some(joined.member) {
            return;
        }
        state.members.insert(joined.member, member);
        state.met_others = true;
        state.alone_since = None;
        drop(state);
        self.tell(CallEvent::MemberJoined(member));
    }

    pub(crate) fn handle_member_left(&self, number: u32, kicked: bool) {
        let mut state = lock(&self.state);
        if state.own_member == Some(number) {
            drop(state);
            return self.end_with(if kicked { CallEnd::Removed } else { CallEnd::Left });
        }
        let Some(member) = state.members.remove(&number) else { return };
        if state.members.is_empty() {
            state.alone_since = Some(Instant::now());
        }
        drop(state);
        self.tell(CallEvent::MemberLeft(member));
    }

    /// A message of the group, in the mailbox's order.
    pub(crate) fn handle_mls(&self, delivery: &MlsDelivery) {
        let mut state = lock(&self.state);
        if state.own_member == Some(delivery.from_member) {
            return;
        }
        let State { group, expected, .. } = &mut *state;
        let processed = group.process(&delivery.payload, &|identity| expected.contains(identity), unix_s());
        match processed {
            Ok(Processed::EpochChanged { .. }) => {
                let early = state.install_keys();
                drop(state);
                self.retry(early);
            }
            Ok(Processed::RemovedOurselves) => {
                drop(state);
                self.end_with(CallEnd::Removed);
            }
            Ok(Processed::Application(_) | Processed::Ignored) => {}
            Err(error) => {
                drop(state);
                tracing::debug!(%error, commit = delivery.commit, "a message of the group was refused");
                // Whoever follows a commit that we refuse is in another group now.
                if delivery.commit {
                    self.end_with(CallEnd::MissedKeys);
                }
            }
        }
    }

    /// Makes a commit that is pending until [`Self::handle_own_commit`].
    pub(crate) fn make_commit(
        &self,
        make: impl FnOnce(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error>,
    ) -> Result<Option<Change>, Error> {
        Ok(make(&mut lock(&self.state).group)?)
    }

    /// The relay took our commit, or another's came first.
    pub(crate) fn handle_own_commit(&self, accepted: bool) {
        let mut state = lock(&self.state);
        if !accepted {
            if let Err(error) = state.group.discard_own() {
                tracing::debug!(%error, "no commit of ours to discard");
            }
            return;
        }
        if let Err(error) = state.group.merge_own() {
            tracing::debug!(%error, "our own commit does not merge");
            drop(state);
            return self.end_with(CallEnd::MissedKeys);
        }
        let early = state.install_keys();
        drop(state);
        self.retry(early);
    }

    pub(crate) fn handle_track_announced(self: &Arc<Self>, link: &Arc<Link>, announced: &TrackAnnounced) {
        let Some(alias) = TrackAlias::new(announced.alias) else { return };
        let kind = announced.kind();
        let mut state = lock(&self.state);
        if state.own_member == Some(announced.member) {
            return;
        }
        let Some(&publisher) = state.members.get(&announced.member) else {
            tracing::debug!("a track of somebody who is not here");
            return;
        };
        let info = match state.opener.open_label(&publisher.device, kind as u8, &announced.label) {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a track's label does not open");
                return;
            }
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
        track.set_route(Some(Route { link: link.clone(), alias }));
        drop(state);
        if let Some(sink) = track.sink() {
            lock(&link.tracks).insert(alias, track.clone());
            link.send(subscribe(alias, &sink.options), None);
        }
        self.tell(CallEvent::TrackAnnounced(track));
    }

    pub(crate) fn handle_track_ended(&self, alias: TrackAlias) {
        let mut state = lock(&self.state);
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
        }
        drop(state);
        self.tell(CallEvent::TrackEnded(track));
    }

    /// The track of ours that has this alias now.
    pub(crate) fn local_track(&self, alias: TrackAlias) -> Option<Arc<LocalTrack>> {
        lock(&self.state).local.iter().find(|track| track.has_alias(alias)).cloned()
    }

    /// Ends the call on this side, once; the first reason stays.
    pub(crate) fn end_with(&self, reason: CallEnd) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.end = Some(reason);
        state.early.clear();
        let tracks = state.remote.clone();
        for track in &state.local {
            track.set_route(None);
        }
        drop(state);
        for track in tracks {
            if let Some(route) = track.route() {
                lock(&route.link.tracks).remove(&route.alias);
            }
            track.set_route(None);
            track.notify(Arrival::TrackEnded);
            track.set_sink(None);
        }
        self.tell(CallEvent::Ended(reason));
    }

    /// Seals the times and the codec's bytes; appends to `out`.
    pub(crate) fn seal(
        &self,
        track: &TrackId,
        visible: &Visible,
        times: FrameTimes,
        codec: &[u8],
        scratch: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        scratch.clear();
        scratch.extend_from_slice(&times.to_bytes());
        scratch.extend_from_slice(codec);
        lock(&self.state).sealer.seal(track, visible, scratch, out)?;
        Ok(())
    }

    pub(crate) fn seal_label(&self, kind: TrackKind, info: &TrackInfo) -> Result<Vec<u8>, Error> {
        Ok(lock(&self.state).sealer.seal_label(kind as u8, info)?)
    }

    pub(crate) fn open(&self, track: &Arc<RemoteTrack>, visible: Visible, sealed: &Bytes, wire_bytes: usize) -> Opened {
        let mut payload = Vec::with_capacity(sealed.len());
        let mut state = lock(&self.state);
        match state.opener.open(&track.publisher.device, &track.info.id, &visible, sealed, &mut payload) {
            Ok(()) => Opened::Payload(payload),
            Err(supernode_e2ee::Error::UnknownKey) => {
                let now = Instant::now();
                state.drop_stale(now);
                if state.early.len() >= EARLY_MAX {
                    return Opened::Bad;
                }
                state.early.push_back(Early {
                    at: now,
                    track: track.clone(),
                    visible,
                    sealed: sealed.clone(),
                    wire_bytes,
                });
                Opened::Later
            }
            Err(_) => Opened::Bad,
        }
    }

    fn retry(&self, early: VecDeque<Early>) {
        for Early { track, visible, sealed, wire_bytes, .. } in early {
            track.handle_object(visible, sealed, wire_bytes);
        }
        self.tell(CallEvent::KeysChanged);
    }

    fn tell(&self, event: CallEvent) {
        // Nobody listening is no fault: the state says the same.
        let _ = self.events.send(event);
        self.changed.send_replace(());
    }
}

/// What others ask of a room.
impl Room {
    pub(crate) fn end(&self) -> Option<CallEnd> {
        lock(&self.state).end
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        lock(&self.state).members.values().copied().collect()
    }

    pub(crate) fn join_key(&self) -> Result<Vec<u8>, Error> {
        Ok(lock(&self.state).group.join_secret()?.public().as_bytes().to_vec())
    }

    pub(crate) fn safety_number(&self) -> Result<String, Error> {
        Ok(lock(&self.state).group.safety_number()?)
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
        if track.route().is_none() && state.end.is_none() {
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

    /// Since when all others are gone; at once final if each of them ended its tracks first. `None` while somebody is
    /// here or nobody has come yet.
    pub(crate) fn alone(&self) -> Option<Alone> {
        let state = lock(&self.state);
        if !state.met_others || !state.members.is_empty() {
            return None;
        }
        let finished = |track: &Arc<RemoteTrack>| track.is_finished();
        let said_goodbye =
            (state.goodbye_heard || !state.remote.is_empty()) && state.remote.iter().all(finished);
        Some(Alone { since: state.alone_since.unwrap_or_else(Instant::now), said_goodbye })
    }
}

/// Nobody else is in the room any more.
pub(crate) struct Alone {
    pub(crate) since: Instant,
    pub(crate) said_goodbye: bool,
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

    /// Takes the group's current keys into use; returns what may open now.
    fn install_keys(&mut self) -> VecDeque<Early> {
        let installed = self.group.epoch_keys().and_then(|keys| {
            self.opener.install(&keys)?;
            self.sealer.install(&keys)
        });
        if let Err(error) = installed {
            tracing::debug!(%error, "the keys of an epoch could not be taken into use");
        }
        self.drop_stale(Instant::now());
        std::mem::take(&mut self.early)
    }

    fn drop_stale(&mut self, now: Instant) {
        while self.early.front().is_some_and(|early| now.duration_since(early.at) > EARLY_AGE_MAX) {
            if let Some(early) = self.early.pop_front() {
                early.track.counters.count_undecryptable();
            }
        }
    }
}

/// Keeps the figures of a track; beyond a bound, added to those of another of its kind.
fn add_past(past: &mut Vec<TrackStats>, stats: TrackStats) {
    if past.len() < PAST_TRACKS_MAX {
        return past.push(stats);
    }
    let alike = |kept: &&mut TrackStats| kept.direction == stats.direction && kept.kind == stats.kind;
    match past.iter_mut().find(alike) {
        Some(kept) => kept.absorb(&stats),
        None => past.push(stats),
    }
}

/// The request for a track's objects.
pub(crate) fn subscribe(alias: TrackAlias, options: &crate::SubscribeOptions) -> client_message::Body {
    client_message::Body::Subscribe(Subscribe {
        alias: alias.value(),
        temporal_layer_max: options.temporal_layer_max.into(),
        spatial_layer_max: options.spatial_layer_max.into(),
        max_age_ms: options.max_age_ms,
    })
}
