//! A room as this device knows it: its MLS group, who is in it, and its tracks. Everything here happens in the order
//! in which the relay's messages came; nothing here waits.

mod sealing;
mod tracks;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use supernode_e2ee::{Change, Group, MediaOpener, MediaSealer, Processed};
use supernode_proto::{
    control::{JoinRoom, MemberJoined, MlsDelivery, RoomJoined, client_message},
    identity::{DeviceKey, EXPORTER_BYTES, IdentityKey, RoomId},
};
use tokio::sync::{broadcast, watch};

use crate::{
    CallEvent, Error,
    error::CallEnd,
    frame::unix_s,
    stats::TrackStats,
    sync::lock,
    track::{Arrival, LocalTrack, RemoteTrack},
};

use sealing::Early;
pub(crate) use {sealing::Opened, tracks::subscribe};

/// Events that a slow listener may lag behind.
const EVENTS_MAX: usize = 256;

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
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        // Nobody can tell us any more whether the relay took it: coming back shows the epoch.
        if let Err(error) = state.group.discard_own() {
            tracing::debug!(%error, "a commit of ours could not be discarded");
        }
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

    pub(crate) fn member_number(&self, member: &Member) -> Option<u32> {
        lock(&self.state).members.iter().find(|(_, known)| *known == member).map(|(number, _)| *number)
    }

    pub(crate) fn join_key(&self) -> Result<Vec<u8>, Error> {
        Ok(lock(&self.state).group.join_secret()?.public().as_bytes().to_vec())
    }

    pub(crate) fn safety_number(&self) -> Result<String, Error> {
        Ok(lock(&self.state).group.safety_number()?)
    }

    /// Since when all others are gone; at once final if each of them ended its tracks first. `None` while somebody is
    /// here or nobody has come yet.
    pub(crate) fn alone(&self) -> Option<Alone> {
        let state = lock(&self.state);
        if !state.met_others || !state.members.is_empty() {
            return None;
        }
        let finished = |track: &Arc<RemoteTrack>| track.is_finished();
        let said_goodbye = (state.goodbye_heard || !state.remote.is_empty()) && state.remote.iter().all(finished);
        Some(Alone { since: state.alone_since.unwrap_or_else(Instant::now), said_goodbye })
    }
}

/// Nobody else is in the room any more.
pub(crate) struct Alone {
    pub(crate) since: Instant,
    pub(crate) said_goodbye: bool,
}
