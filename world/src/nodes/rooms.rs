//! People in rooms, at whichever nodes they are: they come in, leave, put each other out, say something, and catch up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, rngs::StdRng};
use supernode_keys::JoinSecret;
use supernode_proto::{
    control::{
        CatchUp, KickMember, LeaveRoom, MemberJoined, MlsDelivery, PresenceState, RefusalReason, RoomJoined, SendMls,
        client_message::Body as Request,
    },
    identity::RoomId,
    mls::Envelope,
};
use supernode_server::core::Fence;

use super::{Nodes, calls::Asked, ways::Event};

/// After which somebody who could not come in, or was closed, tries again.
const AGAIN_MS: std::ops::Range<u64> = 200..1_200;
/// The epoch of all groups: nobody commits.
const EPOCH: u64 = 1;

/// A room that people know.
pub(super) struct Place {
    id: RoomId,
    secret: JoinSecret,
}

/// Somebody who is in.
pub(super) struct Stay {
    member: u32,
    /// Whom they know to be in, by their numbers, and from which device.
    members: BTreeMap<u32, Bytes>,
    /// The number of the last message.
    last: u64,
    /// Messages of its own, which have numbers that it is not told.
    own: u64,
    by: Option<Fence>,
}

/// Messages by their numbers in the room, and those by the messages.
type Numbered = (BTreeMap<u64, u64>, BTreeMap<u64, u64>);

/// All rooms.
#[derive(Default)]
pub(super) struct Rooms {
    pub(super) places: Vec<Place>,
    /// Who wants to be where.
    wants: BTreeSet<(usize, usize)>,
    stays: BTreeMap<(usize, usize), Stay>,
    /// Who waits to be let in.
    asking: BTreeSet<(usize, usize)>,
    /// Sessions and the members that they were, that were put out, and by whoever asked for it known to be.
    out: BTreeSet<(u64, usize, u32)>,
    /// What was said, by its bytes, and by which device.
    sent: BTreeMap<Bytes, (u64, usize)>,
    /// Under each decision, which message has which number, and the other way round.
    log: BTreeMap<(usize, u64, u64), Numbered>,
    /// Messages that somebody got.
    pub(super) delivered: u64,
}

impl Rooms {
    pub(super) fn new(count: usize, rng: &mut StdRng) -> Self {
        let place = |rng: &mut StdRng| Place {
            id: RoomId::passing(rng.random()),
            secret: JoinSecret::from_bytes(&rng.random()),
        };
        Self { places: (0..count).map(|_| place(rng)).collect(), ..Self::default() }
    }

    pub(super) fn ids(&self) -> Vec<RoomId> {
        self.places.iter().map(|place| place.id).collect()
    }

    fn number(&self, name: &[u8]) -> Option<usize> {
        self.places.iter().position(|place| place.id.0[..] == *name)
    }

    fn name(&self, room: usize) -> Bytes {
        Bytes::copy_from_slice(&self.places[room].id.0)
    }

    /// Whoever waits for something of a room is not refused for these.
    fn may_be(asked: &Asked, reason: i32) -> bool {
        // The relay does not know yet where the room lives: ask again.
        const HOME_UNKNOWN: i32 = 16;
        let one_of = |reasons: &[RefusalReason]| reasons.iter().any(|may| *may as i32 == reason);
        match asked {
            Asked::Enter(_) => reason == HOME_UNKNOWN,
            Asked::PutOut(..) => {
                reason == HOME_UNKNOWN || one_of(&[RefusalReason::UnknownRoom, RefusalReason::UnknownMember])
            }
            Asked::Missed(_) => {
                reason == HOME_UNKNOWN || one_of(&[RefusalReason::UnknownRoom, RefusalReason::HistoryGone])
            }
            _ => reason == HOME_UNKNOWN || one_of(&[RefusalReason::UnknownRoom]),
        }
    }
}

impl Nodes {
    pub(super) fn happen_in_rooms(&mut self, device: usize) {
        let rooms = self.rooms.places.len();
        if rooms == 0 {
            return;
        }
        let room = self.rng.random_range(0..rooms);
        let Some(stay) = self.rooms.stays.get(&(device, room)) else {
            self.rooms.wants.insert((device, room));
            return self.enter(device, room);
        };
        let (last, member) = (stay.last, stay.member);
        let others: Vec<(u32, Bytes)> =
            stay.members.iter().filter(|(other, _)| **other != member).map(|(at, by)| (*at, by.clone())).collect();
        let name = self.rooms.name(room);
        match self.rng.random_range(0..20) {
            0..=12 => self.say_in(device, room),
            13..=14 => {
                let after_sequence = last.saturating_sub(self.rng.random_range(0..4));
                self.ask_for(device, Asked::Missed(room), Request::CatchUp(CatchUp { room: name, after_sequence }));
            }
            15..=17 => {
                self.rooms.wants.remove(&(device, room));
                self.say(format_args!("device {device} leaves room {room}"));
                self.ask_for(device, Asked::Leave(room), Request::LeaveRoom(LeaveRoom { room: name }));
            }
            _ if others.is_empty() => self.say_in(device, room),
            _ => {
                let (member, whose) = others[self.rng.random_range(0..others.len())].clone();
                let session = self.device_of(&whose).map_or(0, |of| self.people.devices[of].session);
                self.say(format_args!("device {device} puts member {member} out of room {room}"));
                let kick = Request::KickMember(KickMember { room: name, member });
                self.ask_for(device, Asked::PutOut(room, member, session), kick);
            }
        }
    }

    fn device_of(&self, key: &[u8]) -> Option<usize> {
        self.people.devices.iter().position(|it| it.secret.public().as_bytes()[..] == *key)
    }

    fn say_in(&mut self, device: usize, room: usize) {
        let number = self.rooms.sent.len() as u64;
        let envelope = Envelope { room: self.rooms.places[room].id, epoch: EPOCH, commit: false };
        let payload: Bytes = envelope.around(&number.to_be_bytes()).into();
        self.rooms.sent.insert(payload.clone(), (number, device));
        let Some(stay) = self.rooms.stays.get_mut(&(device, room)) else { return };
        stay.own += 1;
        let member = stay.member;
        self.say(format_args!("device {device} says {number} in room {room}"));
        let sent = SendMls { room: self.rooms.name(room), epoch: EPOCH, payload, ..SendMls::default() };
        self.ask_for(device, Asked::Say(room, member), Request::SendMls(sent));
    }

    fn enter(&mut self, device: usize, room: usize) {
        if self.people.devices[device].seat.is_none() || !self.rooms.asking.insert((device, room)) {
            return;
        }
        let place = &self.rooms.places[room];
        let request = self.people.devices[device].channel().join(&place.id, &place.secret, EPOCH);
        self.ask_for(device, Asked::Enter(room), Request::JoinRoom(request));
    }

    /// A device has another session, or none: it is in no room, and goes where it wants to be.
    pub(super) fn out_of_rooms(&mut self, device: usize) {
        self.rooms.stays.retain(|(of, _), _| *of != device);
        self.rooms.asking.retain(|(of, _)| *of != device);
        if self.rooms.wants.iter().any(|(of, _)| *of == device) {
            let after = Duration::from_millis(self.rng.random_range(AGAIN_MS));
            self.at(self.now + after, Event::Again(device));
        }
    }

    /// It comes again if it is nowhere, and enters where it wants to be.
    pub(super) fn come_again(&mut self, device: usize) {
        let wanted: Vec<usize> =
            self.rooms.wants.iter().filter(|(of, _)| *of == device).map(|(_, room)| *room).collect();
        if wanted.is_empty() || self.people.devices[device].is_revoked {
            return;
        }
        if self.people.devices[device].seat.is_none() {
            self.come_somewhere(device);
            // Until it says how it is seen, and by whom, it is seen as before.
            let it = &self.people.devices[device];
            let (shows, limits, blocked) = (it.shown.is_some(), it.has_limited, it.blocked.clone());
            if !shows {
                self.show(device, PresenceState::Online);
            }
            if !limits {
                self.limit(device, blocked);
            }
        }
        if self.people.devices[device].seat.is_none() {
            let after = Duration::from_millis(self.rng.random_range(AGAIN_MS));
            return self.at(self.now + after, Event::Again(device));
        }
        for room in wanted {
            if !self.rooms.stays.contains_key(&(device, room)) {
                self.enter(device, room);
            }
        }
    }

    /// A request about a room was refused.
    pub(super) fn refused_in_room(&mut self, device: usize, asked: &Asked, reason: i32) -> bool {
        if let Asked::Say(room, member) = asked
            && let Some(stay) = self.rooms.stays.get_mut(&(device, *room)).filter(|stay| stay.member == *member)
        {
            stay.own = stay.own.saturating_sub(1);
        }
        if let Asked::Enter(room) = asked {
            self.rooms.asking.remove(&(device, *room));
            let after = Duration::from_millis(self.rng.random_range(AGAIN_MS));
            self.at(self.now + after, Event::Again(device));
        }
        Rooms::may_be(asked, reason)
    }

    pub(super) fn entered(&mut self, device: usize, room: usize, joined: &RoomJoined) {
        self.rooms.asking.remove(&(device, room));
        let Some(seat) = self.people.devices[device].seat else { return };
        let by = self.fence_at(seat.node, &self.rooms.places[room].id);
        self.say(format_args!("device {device} is member {} of room {room} by {by:?}", joined.member));
        if let (Some(by), 1, 0) = (by, joined.members.len(), joined.mls_sequence) {
            // Nobody was in it: it counts anew.
            self.rooms.log.remove(&(room, by.epoch, by.revision));
        }
        let members: BTreeMap<u32, Bytes> =
            joined.members.iter().map(|member| (member.member, member.device.clone())).collect();
        let stay = Stay { member: joined.member, members, last: joined.mls_sequence, own: 0, by };
        self.rooms.stays.insert((device, room), stay);
    }

    /// A request about a room was done.
    pub(super) fn done_in_room(&mut self, device: usize, asked: &Asked) {
        match asked {
            Asked::Leave(room) => drop(self.rooms.stays.remove(&(device, *room))),
            Asked::PutOut(room, member, session) => drop(self.rooms.out.insert((*session, *room, *member))),
            _ => {}
        }
    }

    pub(super) fn came_in(&mut self, device: usize, joined: &MemberJoined) {
        if let Some(stay) = self.rooms.number(&joined.room).and_then(|room| self.rooms.stays.get_mut(&(device, room))) {
            stay.members.insert(joined.member, joined.device.clone());
        }
    }

    pub(super) fn went_out(&mut self, device: usize, name: &[u8], member: u32) {
        let Some(room) = self.rooms.number(name) else { return };
        let Some(stay) = self.rooms.stays.get_mut(&(device, room)) else { return };
        stay.members.remove(&member);
        if stay.member == member {
            self.say(format_args!("device {device} was put out of room {room}"));
            self.rooms.stays.remove(&(device, room));
            self.rooms.wants.remove(&(device, room));
        }
    }

    pub(super) fn hear_in_room(&mut self, device: usize, delivery: &MlsDelivery) {
        let Some(room) = self.rooms.number(&delivery.room) else { return };
        let session = self.people.devices[device].session;
        let Some(stay) = self.rooms.stays.get_mut(&(device, room)) else { return };
        let Some((number, by_whom)) = self.rooms.sent.get(&delivery.payload).copied() else {
            return self.judge.fail(self.now, &format!("device {device} was given what nobody said in room {room}"));
        };
        self.rooms.delivered += 1;
        let sequence = delivery.sequence;
        // Its own come only to whoever catches up.
        let is_own = sequence > stay.last && by_whom == device;
        let left_out = sequence.saturating_sub(stay.last + 1) + u64::from(is_own);
        let is_next = left_out <= stay.own;
        stay.own = stay.own.saturating_sub(left_out);
        let (last, member) = (stay.last, stay.member);
        stay.last = last.max(sequence);
        let by = stay.by;
        self.judge.tell(self.now, format_args!("device {device} gets {number} as {sequence} in room {room}"));
        if self.rooms.out.contains(&(session, room, member)) {
            self.judge.fail(self.now, &format!("device {device} was put out of room {room}, and gets a message"));
        }
        if !is_next {
            let what = format!("device {device} gets message {sequence} of room {room} after {last}");
            self.judge.fail(self.now, &what);
        }
        let Some(by) = by else { return };
        let (of_sequence, of_number) = self.rooms.log.entry((room, by.epoch, by.revision)).or_default();
        let other = of_sequence.insert(sequence, number).filter(|other| *other != number);
        let twice = of_number.insert(number, sequence).filter(|other| *other != sequence);
        if other.is_some() || twice.is_some() {
            let what = format!("in room {room} by {by:?}, {number} is {sequence}: also {other:?}, and {twice:?}");
            self.judge.fail(self.now, &what);
        }
    }

    /// Where nothing is wrong any more, everybody is where they want to be, all know all who are there, and hear each other.
    pub(super) fn look_at_rooms(&mut self) {
        for (device, room) in self.rooms.wants.clone() {
            if !self.people.devices[device].is_revoked && !self.rooms.stays.contains_key(&(device, room)) {
                let told = self.homes_told(&self.rooms.places[room].id);
                self.judge.fail(self.now, &format!("device {device} is not in room {room}, which lives at {told}"));
            }
        }
        for room in 0..self.rooms.places.len() {
            let inside: Vec<usize> = self.rooms.stays.keys().filter(|(_, of)| *of == room).map(|(it, _)| *it).collect();
            let keys: BTreeSet<Bytes> = inside
                .iter()
                .map(|it| Bytes::copy_from_slice(self.people.devices[*it].secret.public().as_bytes()))
                .collect();
            for device in &inside {
                let known: BTreeSet<Bytes> = self.rooms.stays[&(*device, room)].members.values().cloned().collect();
                if known != keys {
                    let what = format!(
                        "device {device} knows {} members of room {room}, and {} are in",
                        known.len(),
                        keys.len()
                    );
                    self.judge.fail(self.now, &what);
                }
            }
            if let Some(speaker) = inside.first().copied().filter(|_| self.is_sound()) {
                self.say_in(speaker, room);
            }
        }
        let before = self.rooms.delivered;
        self.pass(Duration::from_secs(1));
        for room in 0..self.rooms.places.len() {
            let last: BTreeSet<u64> = self
                .rooms
                .stays
                .iter()
                .filter(|((_, of), _)| *of == room)
                .map(|(_, stay)| stay.last + stay.own)
                .collect();
            if last.len() > 1 {
                self.judge.fail(self.now, &format!("in room {room} the last messages are {last:?}, after {before}"));
            }
        }
    }

    /// Nobody wants to be anywhere.
    pub(super) fn want_no_rooms(&mut self) {
        self.rooms.wants.clear();
    }
}
