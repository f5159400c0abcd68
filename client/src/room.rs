//! A room as this device knows it: its MLS group, who is in it, and its tracks. Everything here happens in the order
//! in which the relay's messages came; nothing here waits.

mod mailbox;
mod roster;
mod sealing;
mod tracks;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use bytes::Bytes;
use supernode_e2ee::{Group, MediaOpener, MediaSealer};
use supernode_proto::{
    control::{JoinRoom, MemberJoined, RoomJoined, TrackAnnounced, client_message},
    identity::{DeviceKey, EXPORTER_BYTES, IdentityKey, RoomId},
};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    CallEvent, Error,
    door::Hosting,
    error::CallEnd,
    greeting::Said,
    link::Link,
    stats::TrackStats,
    sync::lock,
    track::{Arrival, LocalTrack, RemoteTrack},
};

use mailbox::Mailbox;
pub use roster::RosterEntry;
use roster::{Absence, Expected};
use sealing::Early;
pub(crate) use {roster::Removal, sealing::Opened, tracks::subscribe};

/// Events that a slow listener may lag behind.
const EVENTS_MAX: usize = 256;
/// Messages of the group that wait for whoever is at a door: an admission comes in fewer parts.
const SAID_MAX: usize = 32;
/// Announcements whose labels may open with the next epoch's keys.
const UNOPENED_MAX: usize = 256;

/// Somebody in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// What makes it a room that people come to and go from; `None` for a call of those who were rung.
    pub(crate) hosting: Option<Hosting>,
    /// Held while a commit of ours is under way.
    pub(crate) committing: tokio::sync::Mutex<()>,
    said: mpsc::Sender<(Member, Said)>,
    said_to_us: Mutex<Option<mpsc::Receiver<(Member, Said)>>>,
    state: Mutex<State>,
}

struct State {
    group: Group,
    sealer: MediaSealer,
    opener: MediaOpener,
    expected: Expected,
    own_member: Option<u32>,
    /// The connection that we are in the relay's room on.
    entered_on: Option<u64>,
    /// The group moved on without us: what it says now does not open.
    behind: bool,
    mailbox: Mailbox,
    members: BTreeMap<u32, Member>,
    /// Devices that have a place in the group and none in the relay's room.
    absent: HashMap<DeviceKey, Absence>,
    /// Who was thrown out, and who was only taken for gone.
    kicked: HashSet<IdentityKey>,
    departed: HashSet<IdentityKey>,
    met_others: bool,
    alone_since: Option<Instant>,
    local: Vec<Arc<LocalTrack>>,
    remote: Vec<Arc<RemoteTrack>>,
    /// Figures of tracks that are gone.
    past: Vec<TrackStats>,
    /// Whether a track that is gone ended with its mark.
    goodbye_heard: bool,
    early: VecDeque<Early>,
    unopened: Vec<(Arc<Link>, TrackAnnounced)>,
    end: Option<CallEnd>,
}

impl Room {
    /// A call, whose group holds exactly those who may be in it, or a room that its members let others into.
    pub(crate) fn new(group: Group, hosting: Option<Hosting>) -> Result<Arc<Self>, Error> {
        let keys = group.epoch_keys()?;
        let state = State {
            sealer: MediaSealer::new(&keys)?,
            opener: MediaOpener::new(&keys)?,
            expected: match &hosting {
                Some(_) => Expected::WhomMembersLetIn,
                None => Expected::These(group.members().iter().map(|member| member.identity).collect()),
            },
            own_member: None,
            entered_on: None,
            behind: false,
            mailbox: Mailbox::default(),
            members: BTreeMap::new(),
            absent: HashMap::new(),
            kicked: HashSet::new(),
            departed: HashSet::new(),
            met_others: false,
            alone_since: None,
            local: Vec::new(),
            remote: Vec::new(),
            past: Vec::new(),
            goodbye_heard: false,
            early: VecDeque::new(),
            unopened: Vec::new(),
            end: None,
            group,
        };
        let (said, said_to_us) = mpsc::channel(SAID_MAX);
        Ok(Arc::new(Self {
            id: state.group.room(),
            events: broadcast::Sender::new(EVENTS_MAX),
            changed: watch::Sender::new(()),
            hosting,
            committing: tokio::sync::Mutex::default(),
            said,
            said_to_us: Mutex::new(Some(said_to_us)),
            state: Mutex::new(state),
        }))
    }

    /// The request that lets us in on this connection.
    pub(crate) fn join_request(
        &self,
        exporter: &[u8; EXPORTER_BYTES],
        device: &DeviceKey,
    ) -> Result<client_message::Body, Error> {
        let state = lock(&self.state);
        let (secret, mls_epoch) = (state.group.join_secret()?, state.group.epoch());
        drop(state);
        Ok(client_message::Body::JoinRoom(JoinRoom {
            room: Bytes::copy_from_slice(&self.id.0),
            join_key: Bytes::copy_from_slice(secret.public().as_bytes()),
            proof: Bytes::copy_from_slice(&secret.sign(&self.id, exporter, device)),
            mls_epoch,
        }))
    }

    /// We are in: for the first time, or again.
    pub(crate) fn handle_joined(&self, joined: &RoomJoined) {
        let mut state = lock(&self.state);
        let again = state.own_member.is_some();
        state.mailbox.joined(joined, again);
        state.own_member = Some(joined.member);
        state.members.clear();
        drop(state);
        joined.members.iter().for_each(|member| self.handle_member_joined(member));
        self.changed.send_replace(());
    }

    /// The connection is gone; what hung on it goes with it.
    pub(crate) fn handle_link_lost(&self) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.local.iter().for_each(|track| track.set_route(None));
        state.remote.iter().for_each(|track| track.set_route(None));
        state.entered_on = None;
        state.mailbox.lost();
        state.absent.clear();
        state.unopened.clear();
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
        state.absent.remove(&device);
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
        if kicked {
            state.kicked.insert(member.identity);
        }
        if state.members.is_empty() {
            state.alone_since = Some(Instant::now());
        }
        drop(state);
        self.tell(CallEvent::MemberLeft(member));
    }

    /// Ends the call on this side, once; the first reason stays.
    pub(crate) fn end_with(&self, reason: CallEnd) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.end = Some(reason);
        state.early.clear();
        state.unopened.clear();
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

    pub(crate) fn safety_number(&self) -> Result<String, Error> {
        Ok(lock(&self.state).group.safety_number()?)
    }

    /// A room waits for others; of a call, since when all others are gone; at once final if each of them ended its tracks first. `None` while somebody is
    /// here or nobody has come yet.
    pub(crate) fn alone(&self) -> Option<Alone> {
        let state = lock(&self.state);
        if self.hosting.is_some() || !state.met_others || !state.members.is_empty() {
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
