//! A room as this device knows it: its MLS group, who is in it, and its tracks. Everything here happens in the order
//! in which the relay's messages came.
//!
//! Who waits for whom: work on the group takes up to tens of milliseconds in a large room, and is done on threads that
//! may wait for so long. What everybody asks is answered by the state, which is held for moments. Frames wait for neither,
//! but for their keys, the beacons and whom a rejected commit brought back, none of which is held for longer than a frame
//! takes. Locked in this order: group, state, whom a rejected commit brought back, and one of the others.

mod beacons;
#[cfg(test)]
mod busy_tests;
pub(crate) mod commit;
pub(crate) mod keeper;
mod mailbox;
#[cfg(feature = "measured")]
pub(crate) mod measured;
mod renewal;
mod roster;
mod sealing;
mod tracks;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use supernode_calls::rights::{Claimed, Said};
use supernode_e2ee::{Group, Keys, Snapshot};
use supernode_proto::{
    control::{JoinRoom, MemberJoined, RoomJoined, TrackAnnounced, client_message},
    identity::{DeviceKey, IdentityKey, RoomId},
};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{
    CallEvent, Error,
    error::CallEnd,
    rights::door::Hosting,
    stats::TrackStats,
    sync::lock,
    tracks::track::{Arrival, LocalTrack, RemoteTrack},
    wire::link::Link,
};

use beacons::Beacons;
use mailbox::{Mailbox, Pending};
use renewal::{PastEpochs, Renewal};
pub use roster::RosterEntry;
use roster::{Absence, Connection, Expected};
use sealing::FrameKeys;
pub use supernode_calls::Member;
pub(crate) use {roster::Due, sealing::Opened, tracks::subscribe};

/// Events that a slow listener may lag behind.
const EVENTS_MAX: usize = 256;
/// Messages of the group that wait for whoever is at a door: an admission comes in fewer parts.
const SAID_MAX: usize = 32;
/// Half of the pause before we come in again after the relay has put us out; it doubles each time, up to 64 times this.
const COMING_IN_AGAIN: Duration = Duration::from_millis(100);
/// Announcements whose labels may open with the next epoch's keys.
const UNOPENED_MAX: usize = 256;

/// A room.
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) ourselves: Member,
    pub(crate) events: broadcast::Sender<CallEvent>,
    /// Told after every change of what the state says.
    pub(crate) changed: watch::Sender<()>,
    /// What makes it a room that people come to and go from; `None` for a call of those who were rung.
    pub(crate) hosting: Option<Hosting>,
    /// Held while a commit of ours is under way.
    pub(crate) committing: tokio::sync::Mutex<()>,
    /// Why it is over for us.
    end: OnceLock<CallEnd>,
    expected: Expected,
    group: Mutex<Group>,
    state: Mutex<State>,
    frame_keys: FrameKeys,
    beacons: Mutex<Beacons>,
    /// Devices that a commit had removed which was rejected then.
    must_go: Mutex<HashSet<DeviceKey>>,
    renewal: Mutex<Renewal>,
    said: mpsc::Sender<(Member, Said)>,
    said_to_us: Mutex<Option<mpsc::Receiver<(Member, Said)>>>,
}

struct State {
    /// What the group is.
    group: Snapshot,
    own_member: Option<u32>,
    /// The connection that we are in the relay's room on.
    entered_on: Option<u64>,
    /// The group moved on without us: what it says now does not open.
    behind: bool,
    mailbox: Mailbox,
    /// Who is in the relay's room, by the numbers that they have there.
    connections: BTreeMap<u32, Connection>,
    /// Devices that have a place in the group and none in the relay's room.
    absent: HashMap<DeviceKey, Absence>,
    /// Who was put out, and who was only taken for gone.
    kicked: HashSet<IdentityKey>,
    departed: HashSet<IdentityKey>,
    pending: Pending,
    past_epochs: PastEpochs,
    goes_back_until: Option<Instant>,
    /// How often the relay has put us out without a commit.
    interruptions: u32,
    met_others: bool,
    alone_since: Option<Instant>,
    local: Vec<Arc<LocalTrack>>,
    remote: Vec<Arc<RemoteTrack>>,
    /// Figures of tracks that are gone.
    past: Vec<TrackStats>,
    /// Whether a track that is gone ended with its mark.
    goodbye_heard: bool,
    unopened: Vec<(Arc<Link>, TrackAnnounced)>,
}

impl Room {
    /// A call, whose group holds exactly those who may be in it, or a room that its members let others into.
    /// Fresh keys come at least once in `renew_within`.
    pub(crate) fn new(group: Group, hosting: Option<Hosting>, renew_within: Duration) -> Result<Arc<Self>, Error> {
        let frame_keys = FrameKeys::new(&group.epoch_keys()?)?;
        let own = group.members().into_iter().find(|member| member.leaf == group.own_leaf());
        let ourselves = own.map(Member::from).ok_or(Error::EndToEnd(supernode_e2ee::Error::Removed))?;
        let expected = match &hosting {
            Some(_) => Expected::WhomMembersLetIn,
            None => Expected::These(group.members().iter().map(|member| member.identity).collect()),
        };
        let state = State {
            group: group.snapshot()?,
            own_member: None,
            entered_on: None,
            behind: false,
            mailbox: Mailbox::default(),
            connections: BTreeMap::new(),
            absent: HashMap::new(),
            kicked: hosting.as_ref().map(|hosting| hosting.put_out.clone()).unwrap_or_default(),
            departed: HashSet::new(),
            pending: Pending::default(),
            past_epochs: PastEpochs::default(),
            goes_back_until: None,
            interruptions: 0,
            met_others: false,
            alone_since: None,
            local: Vec::new(),
            remote: Vec::new(),
            past: Vec::new(),
            goodbye_heard: false,
            unopened: Vec::new(),
        };
        let (said, said_to_us) = mpsc::channel(SAID_MAX);
        let room = Arc::new(Self {
            id: group.room(),
            ourselves,
            events: broadcast::Sender::new(EVENTS_MAX),
            changed: watch::Sender::new(()),
            hosting,
            committing: tokio::sync::Mutex::default(),
            end: OnceLock::new(),
            expected,
            group: Mutex::new(group),
            state: Mutex::new(state),
            frame_keys,
            beacons: Mutex::default(),
            must_go: Mutex::default(),
            renewal: Mutex::new(Renewal::new(renew_within, Instant::now())),
            said,
            said_to_us: Mutex::new(Some(said_to_us)),
        });
        room.note_new_group(&mut lock(&room.state));
        Ok(room)
    }

    /// The request that lets us in on this connection.
    pub(crate) fn join_request(&self, link: &Link) -> Result<client_message::Body, Error> {
        // Of a room that stands, it may be on us to open it.
        let stands = self.hosting.as_ref().and_then(|hosting| hosting.link.as_ref());
        let shown = stands.map(|secret| link.channel.show_room(&secret.room_secret()));
        let (room_key, room_proof) = shown.unwrap_or_default();
        let group = &lock(&self.state).group;
        let join = link.channel.join(&self.id, group.join_secret()?, group.epoch);
        Ok(client_message::Body::JoinRoom(JoinRoom { room_key, room_proof, ..join }))
    }

    /// We are in: for the first time, or again.
    pub(crate) fn handle_joined(&self, joined: &RoomJoined) {
        let mut state = lock(&self.state);
        let again = state.own_member.is_some();
        state.mailbox.joined(joined, again);
        state.own_member = Some(joined.member);
        state.connections.clear();
        drop(state);
        joined.members.iter().for_each(|member| self.handle_member_joined(member));
        self.changed.send_replace(());
    }

    /// The connection is gone, or our place on it; what hung on it goes with it.
    pub(crate) fn handle_link_lost(&self) {
        if self.end.get().is_some() {
            return;
        }
        let mut state = lock(&self.state);
        state.local.iter().for_each(|track| track.set_route(None));
        for track in &state.remote {
            if let Some(route) = track.route() {
                lock(&route.link.tracks).remove(&route.alias);
            }
            track.set_route(None);
        }
        state.entered_on = None;
        state.mailbox.lost();
        state.absent.clear();
        state.unopened.clear();
        drop(state);
        self.tell(CallEvent::Interrupted);
    }

    /// Somebody is in the relay's room. Who, the relay cannot say: their device's leaf does.
    pub(crate) fn handle_member_joined(&self, joined: &MemberJoined) {
        let Ok(device) = DeviceKey::from_slice(&joined.device) else { return };
        let mut state = lock(&self.state);
        if state.own_member == Some(joined.member) {
            return;
        }
        state.absent.remove(&device);
        let connection = Connection::new(Claimed::new(device), Instant::now());
        let before = state.connections.insert(joined.member, connection);
        let mut events = self.recognize(&mut state);
        events.extend(before.and_then(Connection::into_member).map(CallEvent::MemberLeft));
        drop(state);
        self.tell_all(events);
    }

    /// How long to wait before we come in again.
    pub(crate) fn pause_before_coming_in_again(&self) -> Duration {
        let mut state = lock(&self.state);
        state.interruptions += 1;
        COMING_IN_AGAIN * 2u32.pow(state.interruptions.min(6))
    }

    /// Somebody is not in the relay's room any more, by whosever doing: a connection that was lost. Whether that was ours
    ///
    pub(crate) fn handle_member_left(&self, number: u32) -> bool {
        let mut state = lock(&self.state);
        if state.own_member == Some(number) {
            let were_in = self.end.get().is_none() && state.entered_on.is_some();
            drop(state);
            if were_in {
                self.handle_link_lost();
            }
            return were_in;
        }
        let Some(connection) = state.connections.remove(&number) else { return false };
        let events = connection.into_member().map(CallEvent::MemberLeft).into_iter().collect();
        state.note_company();
        drop(state);
        self.tell_all(events);
        false
    }

    /// Ends the call on this side, once; the first reason stays.
    pub(crate) fn end_with(&self, reason: CallEnd) {
        if self.end.set(reason).is_err() {
            return;
        }
        self.frame_keys.forget_early();
        let mut state = lock(&self.state);
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

    fn tell_all(&self, events: Vec<CallEvent>) {
        events.into_iter().for_each(|event| drop(self.events.send(event)));
        self.changed.send_replace(());
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
        self.end.get().copied()
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        lock(&self.state).connections.values().filter_map(Connection::member).collect()
    }

    pub(crate) fn member_number(&self, member: &Member) -> Option<u32> {
        let state = lock(&self.state);
        let is_it = |(_, connection): &(&u32, &Connection)| connection.member() == Some(*member);
        state.connections.iter().find(is_it).map(|(number, _)| *number)
    }

    /// How many are connected whom the group does not know.
    pub(crate) fn outsiders(&self) -> usize {
        lock(&self.state).connections.values().filter(|connection| connection.member().is_none()).count()
    }

    pub(crate) fn hosts(&self) -> Vec<IdentityKey> {
        lock(&self.state).group.hosts.clone()
    }

    pub(crate) fn keys(&self) -> Keys {
        lock(&self.state).group.keys
    }

    pub(crate) fn safety_number(&self) -> Result<String, Error> {
        Ok(lock(&self.state).group.safety_number()?.to_owned())
    }

    /// A room waits for others; of a call, since when all others are gone; at once final if each of them ended its tracks first. `None` while somebody is
    /// here or nobody has come yet.
    pub(crate) fn alone(&self) -> Option<Alone> {
        let state = lock(&self.state);
        if self.hosting.is_some() || !state.met_others || state.has_company() {
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
