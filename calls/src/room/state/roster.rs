//! Who has a place in a room's group, who of them is here, and who is to lose theirs.

use std::time::Duration;

use supernode_e2ee::Pass;
use supernode_proto::identity::{DeviceKey, IdentityKey};
use supernode_session::Moment;

use super::RoomState;
use crate::{
    Member,
    rights::{Admission, Claimed, Door},
    room::Event,
};

/// Between the member whose turn it is to remove somebody and the next, who does it if the first does not.
const TURN: Duration = Duration::from_secs(2);

/// How much longer each member waits than the one before it, before it opens a call with whoever is at the door.
const TURN_AT_DOOR: Duration = Duration::from_millis(500);

/// Who knocks at a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knocker {
    /// Who was put out: they are declined, and nobody is asked.
    PutOut,
    /// Who has a place here, or had one until the network took it: they are let in, and nobody is asked.
    Known,
    /// Anybody else: a person decides.
    Stranger,
}

/// A device of the group that is not in the relay's room.
pub(super) struct Absence {
    since: Moment,
    pub(super) said_goodbye: bool,
}

/// A device in the relay's room.
pub(super) struct Connection {
    device: Claimed<DeviceKey>,
    /// Since when it has been here without a place in the group.
    since: Moment,
    /// Whose it is, by the leaf that the group has for this device; nobody's if there is none.
    pub(super) member: Option<Member>,
    /// It is not waited for to get a place.
    suspect: bool,
    /// When we last heard their beacon, or they came.
    pub(super) heard_at: Moment,
}

impl Connection {
    pub(super) const fn new(device: Claimed<DeviceKey>, now: Moment) -> Self {
        Self { device, since: now, member: None, suspect: false, heard_at: now }
    }
}

/// A device in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RosterEntry {
    /// Whose it is, and which.
    pub member: Member,
    /// Whether it is connected to the room now.
    pub is_here: bool,
    /// Whether it is this one.
    pub is_us: bool,
}

/// What is to be done about some, and when.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due<T> {
    /// These, now.
    Now(Vec<T>),
    /// Nothing before then.
    NotBefore(Moment),
    /// Nothing.
    Nothing,
}

impl<T> Due<T> {
    fn of(all: impl Iterator<Item = (Moment, T)>, now: Moment) -> Self {
        let (mut due, mut next): (_, Option<Moment>) = (Vec::new(), None);
        for (at, one) in all {
            if at <= now {
                due.push(one);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        match (due.is_empty(), next) {
            (false, _) => Self::Now(due),
            (true, Some(at)) => Self::NotBefore(at),
            (true, None) => Self::Nothing,
        }
    }
}

impl RoomState {
    /// Everybody else with a place in the group who is connected.
    pub fn members(&self) -> Vec<Member> {
        self.connections.values().filter_map(|connection| connection.member).collect()
    }

    /// The number that a member has in the relay's room.
    pub fn member_number(&self, member: &Member) -> Option<u32> {
        self.connections.iter().find(|(_, connection)| connection.member == Some(*member)).map(|(number, _)| *number)
    }

    /// Who has this number in the relay's room, if the group knows them.
    pub fn member_at(&self, number: u32) -> Option<Member> {
        self.connections.get(&number).and_then(|connection| connection.member)
    }

    /// The numbers that a person's devices have in the relay's room.
    pub fn numbers_of(&self, identity: &IdentityKey) -> Vec<u32> {
        let is_theirs = |member: Member| member.identity == *identity;
        let theirs = self.connections.iter().filter(|(_, connection)| connection.member.is_some_and(is_theirs));
        theirs.map(|(number, _)| *number).collect()
    }

    /// How many are connected whom the group does not know.
    pub fn outsiders(&self) -> usize {
        self.connections.values().filter(|connection| connection.member.is_none()).count()
    }

    /// Everybody with a place in the group, by leaf.
    pub fn roster(&self) -> Vec<RosterEntry> {
        let own = self.group.own_leaf;
        let entry = |member: supernode_e2ee::Member| {
            let is_us = member.leaf == own;
            let is_here = is_us && self.entered_on.is_some() || self.is_here(&member.device);
            RosterEntry { member: member.into(), is_here, is_us }
        };
        self.group.members.iter().copied().map(entry).collect()
    }

    /// Who of the group is gone for good, and whether it is our turn to say so. Whoever said goodbye goes at once,
    /// others after `grace`; the member with the lowest leaf who is here does it, and each further one waits longer, so
    /// that not all commit at the same time.
    pub(super) fn removal(&mut self, grace: Duration, now: Moment) -> Due<DeviceKey> {
        if !self.has_door || !self.keeps_order() {
            return Due::Nothing;
        }
        let turn = TURN * self.turn();
        let mut due = Vec::new();
        for member in self.others() {
            if self.frame_keys.holds_back_from(&member.device) {
                due.push((now, member.device));
                continue;
            }
            if self.is_here(&member.device) {
                continue;
            }
            let absence = self.absent.entry(member.device);
            let absence = absence.or_insert(Absence { since: now, said_goodbye: false });
            let grace = if absence.said_goodbye { Duration::ZERO } else { grace };
            due.push((absence.since + grace + turn, member.device));
        }
        Due::of(due.into_iter(), now)
    }

    /// Who is in the relay's room and has had no place in the group for longer than `grace`, by number, and whether it is
    /// our turn to put them out of it.
    pub(super) fn outsiders_due(&self, grace: Duration, now: Moment) -> Due<u32> {
        if !self.keeps_order() {
            return Due::Nothing;
        }
        let turn = TURN * self.turn();
        let outsiders = self.connections.iter().filter(|(_, connection)| connection.member.is_none());
        let due = |outsider: &Connection| outsider.since + turn + if outsider.suspect { Duration::ZERO } else { grace };
        Due::of(outsiders.map(|(number, outsider)| (due(outsider), *number)), now)
    }

    /// Who somebody who knocks is to us.
    pub fn knocker(&self, member: &Member) -> Knocker {
        let has_a_place = || self.group.members.iter().any(|known| Member::from(*known) == *member);
        if self.kicked.contains(&member.identity) {
            Knocker::PutOut
        } else if self.departed.contains(&member.identity) || has_a_place() {
            Knocker::Known
        } else {
            Knocker::Stranger
        }
    }

    /// How long to wait before we answer somebody who is at the door with the room's link: each member waits longer than the
    /// one before, so that one opens a call with them.
    pub fn pause_at_door(&self) -> Duration {
        TURN_AT_DOOR * self.turn()
    }

    /// How many come before us when something is to be done that one can do for all.
    fn turn(&self) -> u32 {
        let own = self.group.own_leaf;
        self.others().iter().filter(|member| member.leaf < own && self.is_here(&member.device)).count() as u32
    }

    /// Whether they may come again is said by whoever lets them in.
    pub fn forgive(&mut self, identity: &IdentityKey) {
        self.kicked.remove(identity);
    }

    /// Whom to ring to come back, those who let us in first.
    pub(in crate::room) fn doors(&self) -> Vec<Pass> {
        let ourselves = self.ourselves.identity;
        self.doors.iter().filter(|pass| pass.issuer() != ourselves).cloned().collect()
    }

    /// Whoever let us in again knows whom to ring.
    pub fn learn_doors(&mut self, admission: &Admission) {
        let passes = admission.passes();
        if !passes.is_empty() {
            self.doors = passes;
        }
    }

    /// What a guest is given who has this Welcome: so much of `door` as we have a right to pass on, and of what we know.
    pub fn admission(&self, door: &Door, welcome: Vec<u8>, unix_s: u64) -> Admission {
        door.admission(welcome, &self.doors, &self.kicked, unix_s)
    }

    /// Looks again whose leaf stands behind each connection, after a change of the group or of who is here; returns what
    /// to tell of it. A leaf of ours does not vouch for somebody else's connection.
    pub(super) fn recognize(&mut self, now: Moment) -> Vec<Event> {
        let known = self.others();
        let mut events = Vec::new();
        for connection in self.connections.values_mut() {
            let leaf = known.iter().find(|member| connection.device.is(&member.device));
            let member = leaf.copied().map(Member::from);
            if member == connection.member {
                continue;
            }
            events.extend(connection.member.map(Event::MemberLeft));
            events.extend(member.map(Event::MemberJoined));
            (connection.member, connection.since, connection.heard_at) = (member, now, now);
        }
        self.note_company(now);
        self.forget_doubts_of_those_gone();
        events
    }

    pub(super) fn is_here(&self, device: &DeviceKey) -> bool {
        self.connections.values().any(|connection| connection.device.is(device))
    }

    /// Whether somebody whom the group knows is here too.
    pub(super) fn has_company(&self) -> bool {
        self.connections.values().any(|connection| connection.member.is_some())
    }

    /// Everybody else in the group.
    fn others(&self) -> Vec<supernode_e2ee::Member> {
        let own = self.group.own_leaf;
        self.group.members.iter().copied().filter(|member| member.leaf != own).collect()
    }

    pub(super) fn note_goodbye(&mut self, device: DeviceKey, now: Moment) {
        self.absent.insert(device, Absence { since: now, said_goodbye: true });
    }

    /// Whoever has no place in the group is put out of the relay's room as soon as it is somebody's turn.
    pub(super) fn suspect_outsiders(&mut self) {
        self.connections.values_mut().filter(|connection| connection.member.is_none()).for_each(|outsider| {
            outsider.suspect = true;
        });
    }
}
