//! Who has a place in a room's group, who of them is here, and who is to lose theirs.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_proto::identity::{DeviceKey, IdentityKey};

use super::{Member, Room, State};
use crate::sync::lock;

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

/// What is to be done about those who are gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// These devices, now.
    Due(Vec<DeviceKey>),
    /// Nothing before then.
    NotBefore(Instant),
    Nothing,
}

impl Room {
    /// Everybody with a place in the group, by leaf.
    pub(crate) fn roster(&self) -> Vec<RosterEntry> {
        let state = lock(&self.state);
        let own = state.group.own_leaf();
        let entry = |member: supernode_e2ee::Member| {
            let is_us = member.leaf == own;
            let is_here = is_us && state.entered_on.is_some() || state.is_here(&member.device);
            RosterEntry { member: Member { identity: member.identity, device: member.device }, is_here, is_us }
        };
        state.group.members().into_iter().map(entry).collect()
    }

    /// Who of the group is gone for good, and whether it is our turn to say so. Whoever said goodbye goes at once,
    /// others after `grace`; the member with the lowest leaf who is here does it, and each further one waits longer, so
    /// that not all commit at the same time.
    pub(crate) fn removal(&self, grace: Duration, now: Instant) -> Removal {
        let mut state = lock(&self.state);
        if state.end.is_some() || state.behind || state.entered_on.is_none() {
            return Removal::Nothing;
        }
        let own = state.group.own_leaf();
        let others: Vec<_> = state.group.members().into_iter().filter(|member| member.leaf != own).collect();
        let turn = others.iter().filter(|member| member.leaf < own && state.is_here(&member.device)).count() as u32;
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for member in others {
            if state.is_here(&member.device) {
                continue;
            }
            let absence = state.absent.entry(member.device);
            let absence = absence.or_insert(Absence { since: now, said_goodbye: false });
            let grace = if absence.said_goodbye { Duration::ZERO } else { grace };
            let at = absence.since + grace + TURN * turn;
            if at <= now {
                due.push(member.device);
            } else {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        }
        match (due.is_empty(), next) {
            (false, _) => Removal::Due(due),
            (true, Some(at)) => Removal::NotBefore(at),
            (true, None) => Removal::Nothing,
        }
    }

    /// Whether the group moved on without us.
    pub(crate) fn is_behind(&self) -> bool {
        lock(&self.state).behind
    }

    /// Whether we are in the relay's room on this connection.
    pub(crate) fn is_entered_on(&self, generation: u64) -> bool {
        lock(&self.state).entered_on == Some(generation)
    }

    pub(crate) fn epoch(&self) -> u64 {
        lock(&self.state).group.epoch()
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
        let in_group =
            |known: supernode_e2ee::Member| known.identity == member.identity && known.device == member.device;
        state.group.members().into_iter().any(in_group) || state.departed.contains(&member.identity)
    }

    pub(crate) fn was_kicked(&self, identity: &IdentityKey) -> bool {
        lock(&self.state).kicked.contains(identity)
    }

    /// Whether they may come again is said by whoever lets them in.
    pub(crate) fn forgive(&self, identity: &IdentityKey) {
        lock(&self.state).kicked.remove(identity);
    }

    pub(crate) fn note_kicked(&self, identity: &IdentityKey) {
        lock(&self.state).kicked.insert(*identity);
    }

    /// The numbers that a person's devices have in the relay's room.
    pub(crate) fn numbers_of(&self, identity: &IdentityKey) -> Vec<u32> {
        let state = lock(&self.state);
        state.members.iter().filter(|(_, member)| member.identity == *identity).map(|(number, _)| *number).collect()
    }
}

impl State {
    pub(super) fn is_here(&self, device: &DeviceKey) -> bool {
        self.members.values().any(|member| member.device == *device)
    }

    pub(super) fn note_goodbye(&mut self, device: DeviceKey) {
        self.absent.insert(device, Absence { since: Instant::now(), said_goodbye: true });
    }

    /// Those who were removed without having been here were taken for gone: they may come back.
    pub(super) fn note_departed(&mut self, removed: &[supernode_e2ee::Member]) {
        for member in removed {
            let absence = self.absent.remove(&member.device);
            if absence.is_some_and(|absence| !absence.said_goodbye) && !self.kicked.contains(&member.identity) {
                self.departed.insert(member.identity);
            }
        }
    }
}
