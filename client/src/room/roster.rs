//! Who has a place in a room's group, who of them is here, and who is to lose theirs.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_calls::rights::Claimed;
use supernode_proto::identity::{DeviceKey, IdentityKey};

use super::{Member, Room, State};
use crate::{CallEvent, sync::lock};

/// Between the member whose turn it is to remove somebody and the next, who does it if the first does not.
const TURN: Duration = Duration::from_secs(2);

/// Who may be in a group.
pub(super) enum Expected {
    These(HashSet<IdentityKey>),
    WhomMembersLetIn,
}

impl Expected {
    pub(super) fn holds(&self, identity: &IdentityKey) -> bool {
        match self {
            Self::These(identities) => identities.contains(identity),
            Self::WhomMembersLetIn => true,
        }
    }
}

/// A device of the group that is not in the relay's room.
pub(super) struct Absence {
    since: Instant,
    said_goodbye: bool,
}

/// A device in the relay's room.
pub(super) struct Connection {
    device: Claimed<DeviceKey>,
    /// Since when it has been here without a place in the group.
    since: Instant,
    /// Whose it is, by the leaf that the group has for this device; nobody's if there is none.
    member: Option<Member>,
    /// It is not waited for to get a place.
    suspect: bool,
    /// When we last heard their beacon, or they came.
    pub(super) heard_at: Instant,
}

impl Connection {
    pub(super) const fn new(device: Claimed<DeviceKey>, now: Instant) -> Self {
        Self { device, since: now, member: None, suspect: false, heard_at: now }
    }

    pub(super) fn member(&self) -> Option<Member> {
        self.member
    }

    pub(super) fn into_member(self) -> Option<Member> {
        self.member
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
pub(crate) enum Due<T> {
    /// These, now.
    Now(Vec<T>),
    /// Nothing before then.
    NotBefore(Instant),
    Nothing,
}

impl<T> Due<T> {
    fn of(all: impl Iterator<Item = (Instant, T)>, now: Instant) -> Self {
        let (mut due, mut next): (_, Option<Instant>) = (Vec::new(), None);
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

impl Room {
    /// Everybody with a place in the group, by leaf.
    pub(crate) fn roster(&self) -> Vec<RosterEntry> {
        let state = lock(&self.state);
        let own = state.group.own_leaf;
        let entry = |member: supernode_e2ee::Member| {
            let is_us = member.leaf == own;
            let is_here = is_us && state.entered_on.is_some() || state.is_here(&member.device);
            RosterEntry { member: Member { identity: member.identity, device: member.device }, is_here, is_us }
        };
        state.group.members.iter().copied().map(entry).collect()
    }

    /// Who of the group is gone for good, and whether it is our turn to say so. Whoever said goodbye goes at once,
    /// others after `grace`; the member with the lowest leaf who is here does it, and each further one waits longer, so
    /// that not all commit at the same time.
    pub(crate) fn removal(&self, grace: Duration, now: Instant) -> Due<DeviceKey> {
        let mut state = lock(&self.state);
        if self.hosting.is_none() || !self.keeps_order(&state) {
            return Due::Nothing;
        }
        let turn = TURN * state.turn();
        let must_go = lock(&self.must_go).clone();
        let mut due = Vec::new();
        for member in state.others() {
            if must_go.contains(&member.device) {
                due.push((now, member.device));
                continue;
            }
            if state.is_here(&member.device) {
                continue;
            }
            let absence = state.absent.entry(member.device);
            let absence = absence.or_insert(Absence { since: now, said_goodbye: false });
            let grace = if absence.said_goodbye { Duration::ZERO } else { grace };
            due.push((absence.since + grace + turn, member.device));
        }
        Due::of(due.into_iter(), now)
    }

    /// Who is in the relay's room and has had no place in the group for longer than `grace`, by number, and whether it is
    /// our turn to put them out of it.
    pub(crate) fn outsiders_due(&self, grace: Duration, now: Instant) -> Due<u32> {
        let state = lock(&self.state);
        if !self.keeps_order(&state) {
            return Due::Nothing;
        }
        let turn = TURN * state.turn();
        let outsiders = state.connections.iter().filter(|(_, connection)| connection.member.is_none());
        let due = |outsider: &Connection| outsider.since + turn + if outsider.suspect { Duration::ZERO } else { grace };
        Due::of(outsiders.map(|(number, outsider)| (due(outsider), *number)), now)
    }

    /// The relay has put somebody out, or does not know them: it had only claimed that they were here.
    pub(crate) fn forget_outsider(&self, number: u32) {
        let mut state = lock(&self.state);
        let gone = state.connections.remove(&number).and_then(Connection::into_member);
        drop(state);
        self.tell_all(gone.map(CallEvent::MemberLeft).into_iter().collect());
    }

    /// Whether the group moved on without us.
    pub(crate) fn is_behind(&self) -> bool {
        lock(&self.state).behind
    }

    /// Whether we have never been in the relay's room.
    pub(crate) fn is_new_to_us(&self) -> bool {
        lock(&self.state).own_member.is_none()
    }

    /// Whether we are in the relay's room on this connection.
    pub(crate) fn is_entered_on(&self, generation: u64) -> bool {
        lock(&self.state).entered_on == Some(generation)
    }

    pub(crate) fn epoch(&self) -> u64 {
        lock(&self.state).group.epoch
    }

    /// Waits until the group is in this epoch or a later one.
    pub(crate) async fn wait_for_epoch(self: &Arc<Self>, epoch: u64) {
        self.wait_until(|room| room.epoch() >= epoch).await;
    }

    /// Waits until it is so or the room is over for us.
    pub(crate) async fn wait_until(self: &Arc<Self>, is_so: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(self) && self.end().is_none() && changed.changed().await.is_ok() {}
    }

    /// Whether somebody who knocks has, or had until the network took it, a place here.
    pub(crate) fn knows(&self, member: &Member) -> bool {
        let state = lock(&self.state);
        state.group.members.iter().any(|known| Member::from(*known) == *member)
            || state.departed.contains(&member.identity)
    }

    /// How many come before us when something is to be done that one can do for all.
    pub(crate) fn turn(&self) -> u32 {
        lock(&self.state).turn()
    }

    /// Who was put out and is not let in again without being asked for.
    pub(crate) fn put_out(&self) -> HashSet<IdentityKey> {
        lock(&self.state).kicked.clone()
    }

    pub(crate) fn was_kicked(&self, identity: &IdentityKey) -> bool {
        lock(&self.state).kicked.contains(identity)
    }

    /// Whether they may come again is said by whoever lets them in.
    pub(crate) fn forgive(&self, identity: &IdentityKey) {
        lock(&self.state).kicked.remove(identity);
    }

    /// The numbers that a person's devices have in the relay's room.
    pub(crate) fn numbers_of(&self, identity: &IdentityKey) -> Vec<u32> {
        let state = lock(&self.state);
        let is_theirs = |connection: &Connection| connection.member.is_some_and(|member| member.identity == *identity);
        state.connections.iter().filter(|(_, connection)| is_theirs(connection)).map(|(number, _)| *number).collect()
    }

    /// Whether it is for us to keep the room in order: what we know of the group is what the others know.
    pub(super) fn keeps_order(&self, state: &State) -> bool {
        self.end.get().is_none() && !state.behind && state.entered_on.is_some()
    }

    /// Looks again whose leaf stands behind each connection, after a change of the group or of who is here; returns what
    /// to tell of it. A leaf of ours does not vouch for somebody else's connection.
    pub(super) fn recognize(&self, state: &mut State) -> Vec<CallEvent> {
        let known = state.others();
        let (now, mut events) = (Instant::now(), Vec::new());
        for connection in state.connections.values_mut() {
            let leaf = known.iter().find(|member| connection.device.is(&member.device));
            let member = leaf.copied().map(Member::from);
            if member == connection.member {
                continue;
            }
            events.extend(connection.member.map(CallEvent::MemberLeft));
            events.extend(member.map(CallEvent::MemberJoined));
            (connection.member, connection.since, connection.heard_at) = (member, now, now);
        }
        state.note_company();
        self.forget_doubts_of_those_gone(state);
        events
    }
}

impl State {
    pub(super) fn is_here(&self, device: &DeviceKey) -> bool {
        self.connections.values().any(|connection| connection.device.is(device))
    }

    /// Whether somebody whom the group knows is here too.
    pub(super) fn has_company(&self) -> bool {
        self.connections.values().any(|connection| connection.member.is_some())
    }

    pub(super) fn note_company(&mut self) {
        if self.has_company() {
            (self.met_others, self.alone_since) = (true, None);
        } else if self.met_others && self.alone_since.is_none() {
            self.alone_since = Some(Instant::now());
        }
    }

    /// Everybody else in the group.
    fn others(&self) -> Vec<supernode_e2ee::Member> {
        let own = self.group.own_leaf;
        self.group.members.iter().copied().filter(|member| member.leaf != own).collect()
    }

    /// How many come before us when something is to be done that one can do for all.
    pub(super) fn turn(&self) -> u32 {
        let own = self.group.own_leaf;
        self.others().iter().filter(|member| member.leaf < own && self.is_here(&member.device)).count() as u32
    }

    pub(super) fn note_goodbye(&mut self, device: DeviceKey) {
        self.absent.insert(device, Absence { since: Instant::now(), said_goodbye: true });
    }

    /// What becomes of those whom a commit removed, by the commit's own word and not by who the relay says was here: who
    /// was put out is not let in again without being asked for, who was taken for gone may come back. Returns what to tell.
    pub(super) fn note_removed(
        &mut self,
        removed: &[supernode_e2ee::Member],
        by: Member,
        put_out: bool,
    ) -> Vec<CallEvent> {
        let mut told = Vec::new();
        let still = &self.group.members;
        for member in removed.iter().filter(|gone| still.iter().all(|member| member.device != gone.device)) {
            let said_goodbye = self.absent.remove(&member.device).is_some_and(|absence| absence.said_goodbye);
            if put_out {
                self.kicked.insert(member.identity);
                self.departed.remove(&member.identity);
            } else if !said_goodbye && !self.kicked.contains(&member.identity) {
                self.departed.insert(member.identity);
            }
            told.push(CallEvent::Removed { who: (*member).into(), by, put_out });
        }
        told
    }

    /// Whoever has no place in the group is put out of the relay's room as soon as it is somebody's turn.
    pub(super) fn suspect_outsiders(&mut self) {
        self.connections.values_mut().filter(|connection| connection.member.is_none()).for_each(|outsider| {
            outsider.suspect = true;
        });
    }
}
