//! What is known of a room, and what becomes of it when somebody comes or goes, or we do.

mod beacons;
mod duty;
mod entry;
mod mailbox;
mod renewal;
mod roster;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use supernode_e2ee::{Error, Keys, Pass, Snapshot};
use supernode_proto::{
    control::{JoinRoom, KickMember, LeaveRoom, MemberJoined, RefusalReason, RoomJoined, client_message},
    identity::{DeviceKey, IdentityKey, RoomId},
};
use supernode_session::{Channel, Moment, Refusal};

use super::{Event, FrameKeys, Uniform, Wish};
use crate::{
    Member,
    rights::{Claimed, Door},
};

pub(super) use beacons::Beacons;
pub use duty::{Duty, Keeping, Removal};
pub use entry::{Answer, Entry, NextStep, Progress, Step};
use mailbox::Mailbox;
#[cfg(test)]
pub(super) use renewal::GOES_BACK_FOR;
use renewal::{PastEpochs, Renewal};
use roster::{Absence, Connection, Due};
pub use roster::{Knocker, RosterEntry};

/// Half of the pause before we come in again after the relay has put us out; it doubles each time, up to 64 times this.
const COMING_IN_AGAIN: Duration = Duration::from_millis(100);

/// What is known of a room.
pub struct RoomState {
    id: RoomId,
    ourselves: Member,
    frame_keys: Arc<FrameKeys>,
    /// People come to it and go from it; or else it is a call of those who were rung.
    has_door: bool,
    is_over: bool,
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
    /// Whom to ring to come back, those who let us in first; ourselves perhaps.
    doors: Vec<Pass>,
    past_epochs: PastEpochs,
    goes_back_until: Option<Moment>,
    renewal: Renewal,
    /// How often the relay has put us out without a commit.
    interruptions: u32,
    met_others: bool,
    alone_since: Option<Moment>,
}

impl RoomState {
    pub(super) fn new(
        id: RoomId,
        group: Snapshot,
        frame_keys: Arc<FrameKeys>,
        door: Option<&Door>,
        renew_within: Duration,
        now: Moment,
        uniform: Uniform<'_>,
    ) -> Result<Self, Error> {
        let own = group.members.iter().find(|member| member.leaf == group.own_leaf);
        let ourselves = own.copied().map(Member::from).ok_or(Error::Removed)?;
        let mut state = Self {
            id,
            ourselves,
            frame_keys,
            has_door: door.is_some(),
            is_over: false,
            group,
            own_member: None,
            entered_on: None,
            behind: false,
            mailbox: Mailbox::default(),
            connections: BTreeMap::new(),
            absent: HashMap::new(),
            kicked: door.map(|door| door.put_out().clone()).unwrap_or_default(),
            departed: HashSet::new(),
            doors: door.map(|door| door.passes().to_vec()).unwrap_or_default(),
            past_epochs: PastEpochs::default(),
            goes_back_until: None,
            renewal: Renewal::new(renew_within, now, uniform),
            interruptions: 0,
            met_others: false,
            alone_since: None,
        };
        state.note_new_group(now);
        Ok(state)
    }

    fn join_request(&self, channel: &Channel, door: Option<&Door>) -> Result<client_message::Body, Error> {
        let stands = door.and_then(Door::link);
        let shown = stands.map(|secret| channel.show_room(&secret.room_secret()));
        let (room_key, room_proof) = shown.unwrap_or_default();
        let join = channel.join(&self.id, self.group.join_secret()?, self.group.epoch);
        Ok(client_message::Body::JoinRoom(JoinRoom { room_key, room_proof, ..join }))
    }

    /// The request by which we leave.
    pub fn leave_request(&self) -> client_message::Body {
        client_message::Body::LeaveRoom(LeaveRoom { room: self.room_bytes() })
    }

    /// The request that puts somebody out of the relay's room, by their number there. Refused, they may have left by themselves
    /// ([`has_left`]).
    pub fn kick_request(&self, member: u32) -> client_message::Body {
        client_message::Body::KickMember(KickMember { room: self.room_bytes(), member })
    }

    /// The relay has let us in: for the first time, or again.
    fn handle_joined(&mut self, joined: &RoomJoined, now: Moment) -> Vec<Wish> {
        let again = self.own_member.is_some();
        self.mailbox.joined(joined, again);
        self.own_member = Some(joined.member);
        self.connections.clear();
        for member in &joined.members {
            self.note_connected(member, now);
        }
        self.recognize(now).into_iter().map(Wish::from).collect()
    }

    /// The connection is gone, or our place on it.
    pub fn handle_lost(&mut self) -> Vec<Wish> {
        if self.is_over {
            return Vec::new();
        }
        self.entered_on = None;
        self.mailbox.lost();
        self.absent.clear();
        vec![Wish::LoseRoutes, Event::Interrupted.into()]
    }

    /// Somebody is in the relay's room. Who, the relay cannot say: their device's leaf does.
    pub fn handle_member_joined(&mut self, joined: &MemberJoined, now: Moment) -> Vec<Wish> {
        let before = self.note_connected(joined, now);
        let mut events = self.recognize(now);
        events.extend(before.and_then(|before| before.member).map(Event::MemberLeft));
        events.into_iter().map(Wish::from).collect()
    }

    /// Who had the number before.
    fn note_connected(&mut self, joined: &MemberJoined, now: Moment) -> Option<Connection> {
        let device = DeviceKey::from_slice(&joined.device).ok()?;
        if self.own_member == Some(joined.member) {
            return None;
        }
        self.absent.remove(&device);
        self.connections.insert(joined.member, Connection::new(Claimed::new(device), now))
    }

    /// Somebody is not in the relay's room any more, by whosever doing: a connection that was lost. `None` if that was ours
    /// then [`Self::handle_lost`], and we come in again ([`Entry::put_out`]).
    pub fn handle_member_left(&mut self, number: u32, now: Moment) -> Option<Vec<Wish>> {
        if self.own_member == Some(number) {
            let were_in = !self.is_over && self.entered_on.is_some();
            return if were_in { None } else { Some(Vec::new()) };
        }
        let told = self.forget_connection(number);
        self.note_company(now);
        Some(told)
    }

    /// The relay has put somebody out, or does not know them: it had only claimed that they were here.
    pub fn forget_outsider(&mut self, number: u32) -> Vec<Wish> {
        self.forget_connection(number)
    }

    fn forget_connection(&mut self, number: u32) -> Vec<Wish> {
        let member = self.connections.remove(&number).and_then(|connection| connection.member);
        member.map(|member| Event::MemberLeft(member).into()).into_iter().collect()
    }

    fn pause_before_coming_in_again(&mut self) -> Duration {
        self.interruptions += 1;
        COMING_IN_AGAIN * 2u32.pow(self.interruptions.min(6))
    }

    /// It is over for us; whether it was not before, for the first reason stays.
    pub fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.is_over, true)
    }

    fn note_company(&mut self, now: Moment) {
        if self.has_company() {
            (self.met_others, self.alone_since) = (true, None);
        } else if self.met_others && self.alone_since.is_none() {
            self.alone_since = Some(now);
        }
    }

    fn room_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.id.0)
    }
}

/// What is asked of it.
impl RoomState {
    /// Its name on the wire.
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// Who we are in it.
    pub fn ourselves(&self) -> Member {
        self.ourselves
    }

    /// What the group is.
    pub fn group(&self) -> &Snapshot {
        &self.group
    }

    /// Who may put others out: see [`Snapshot::hosts`].
    pub fn hosts(&self) -> Vec<IdentityKey> {
        self.group.hosts.clone()
    }

    /// By what its keys are agreed on.
    pub fn keys(&self) -> Keys {
        self.group.keys
    }

    /// The epoch that the group is in.
    pub fn epoch(&self) -> u64 {
        self.group.epoch
    }

    /// The number that we have, or had last, in the relay's room.
    pub fn own_number(&self) -> Option<u32> {
        self.own_member
    }

    /// Whether the group moved on without us.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Whether we have never been in the relay's room.
    pub fn is_new_to_us(&self) -> bool {
        self.own_member.is_none()
    }

    /// Whether we have a place in the group with which we were in the relay's room.
    pub(in crate::room) fn has_old_place(&self) -> bool {
        !self.is_new_to_us() && self.group.join_secret().is_ok()
    }

    /// Whether we are in the relay's room on this connection.
    pub fn is_entered_on(&self, connection: u64) -> bool {
        self.entered_on == Some(connection)
    }

    /// Of a call in which somebody was, and all others are gone: when it is over for that. At once if each of them ended its
    /// tracks first ([`Tracks::said_goodbye`](super::Tracks::said_goodbye)); otherwise they have so long to come back. A room
    /// waits for others.
    pub fn over_at(&self, said_goodbye: bool, grace: Duration, now: Moment) -> Option<Moment> {
        if self.has_door || !self.met_others || self.has_company() {
            return None;
        }
        let since = self.alone_since.unwrap_or(now);
        Some(if said_goodbye { since } else { since + grace })
    }

    /// Whether it is for us to keep the room in order: what we know of the group is what the others know.
    fn keeps_order(&self) -> bool {
        !self.is_over && !self.behind && self.entered_on.is_some()
    }
}

/// Whether somebody could not be put out of the relay's room for this: they have left by themselves, as whoever sees that it
/// has no keys.
pub fn has_left(refusal: &Refusal) -> bool {
    refusal.reason == RefusalReason::UnknownMember
}

impl std::fmt::Debug for RoomState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomState").field("group", &self.group).finish_non_exhaustive()
    }
}
