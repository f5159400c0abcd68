//! What keeps a room in order while we are in it: those who are gone are removed, keys are renewed, what is over is
//! forgotten, and we come back when the group moved on without us.

use std::{collections::HashSet, time::Duration};

use supernode_e2ee::{Change, DeviceSecret, Error, Group};
use supernode_proto::identity::{Delegation, DeviceKey, IdentityKey};
use supernode_session::Moment;

use super::{Due, RoomState};
use crate::room::{Uniform, Wish};

/// What there is to do for a room, one after the other.
#[derive(Debug, PartialEq)]
pub enum Duty {
    /// The group moved on without us: somebody is to let us in again. Then [`RoomState::handle_replaced`].
    ComeBack,
    /// The others did not reject what we rejected: it is we who cannot follow ([`RoomState::fall_behind`]).
    FallBehind,
    /// Somebody is gone, and it is for us to remove them by a commit ([`Removal::propose`]).
    Remove(Removal),
    /// These connections are of nobody whom the group knows: the relay is to put them out, by their numbers
    /// ([`RoomState::kick_request`], [`RoomState::forget_outsider`]).
    PutOut(Vec<u32>),
    /// Fresh keys are due, by a commit that is made if they still are then ([`RoomState::is_renewal_due`]). If it does not come
    /// about: [`RoomState::put_renewal_off`].
    Renew,
    /// Something that is kept of past epochs is to go: [`RoomState::forget_past_epochs`].
    Forget,
    /// These, and nothing more before that time or a change of the room.
    Wait(Vec<Wish>, Option<Moment>),
}

/// What a device keeps its rooms by.
#[derive(Clone, Copy)]
pub struct Keeping<'a> {
    /// How long somebody may be gone.
    pub grace: Duration,
    /// What says whose our device is now.
    pub delegation: &'a Delegation,
    /// By what beacons are signed.
    pub device: &'a DeviceSecret,
}

impl RoomState {
    /// What is to be done now. To be asked after every change and when its time has come, until the room is over; what it
    /// says is done before it is asked again.
    pub fn duty(&mut self, by: Keeping<'_>, now: Moment, uniform: Uniform<'_>) -> Duty {
        if self.behind {
            return Duty::ComeBack;
        }
        if self.rejection_deadline().is_some_and(|at| at <= now) {
            return Duty::FallBehind;
        }
        let mut next: Vec<Moment> = self.rejection_deadline().into_iter().collect();
        match self.removal(by.grace, now) {
            Due::Now(devices) => {
                let (put_out, ourselves) = (self.kicked.clone(), self.ourselves.identity);
                return Duty::Remove(Removal { devices, put_out, ourselves });
            }
            Due::NotBefore(at) => next.push(at),
            Due::Nothing => {}
        }
        match self.outsiders_due(by.grace, now) {
            Due::Now(numbers) => return Duty::PutOut(numbers),
            Due::NotBefore(at) => next.push(at),
            Due::Nothing => {}
        }
        match self.renewal_due(by.delegation, now, uniform) {
            Some(at) if at <= now => return Duty::Renew,
            later => next.extend(later),
        }
        match self.next_to_forget() {
            Some(at) if at <= now => return Duty::Forget,
            later => next.extend(later),
        }
        let (mut wishes, next_split) = self.show_splits(now);
        let (beacon, next_beacon) = self.beacon(by.device, now);
        wishes.extend(beacon.map(|beacon| Wish::Send(Box::new(beacon))));
        next.extend([next_split, next_beacon].into_iter().flatten());
        Duty::Wait(wishes, next.into_iter().min())
    }
}

/// Who is to be removed from the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    devices: Vec<DeviceKey>,
    /// Who was put out of the room.
    put_out: HashSet<IdentityKey>,
    ourselves: IdentityKey,
}

impl Removal {
    /// Makes the commit, unless another member was faster: those who were put out are put out again, if we may.
    ///
    /// # Errors
    /// As [`Group::propose_put_out`] and [`Group::propose_remove`].
    pub fn propose(&self, group: &mut Group) -> Result<Option<Change>, Error> {
        let gone = group.members().into_iter().filter(|member| self.devices.contains(&member.device));
        let (out, gone): (Vec<_>, Vec<_>) = gone.partition(|member| self.put_out.contains(&member.identity));
        let leaves =
            |members: &[supernode_e2ee::Member]| members.iter().map(|member| member.leaf).collect::<Vec<u32>>();
        if !out.is_empty() && group.may_put_out(&self.ourselves) {
            return group.propose_put_out(&leaves(&out)).map(Some);
        }
        let all = leaves(&[out, gone].concat());
        if all.is_empty() { Ok(None) } else { group.propose_remove(&all).map(Some) }
    }
}
