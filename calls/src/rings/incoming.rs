//! A ring of somebody's, before it is answered.

use std::time::Duration;

use bytes::Bytes;
use supernode_e2ee::{Device, Group, LinkSecret};
use supernode_proto::{
    control::{self, DeclineRing, client_message},
    identity::{IdentityKey, RelayPin, Revocation, RoomId},
};

use super::{Admitting, Answering, Next, RingError};
use crate::{
    Member,
    rights::{Fault, ForLobby, Greeting, Invitation, Purpose, Revoked, Rules, open_knock},
    room::Knocker,
};

/// What came with a ring, opened as far as our keys do. That may use up the key package for the last resort
/// ([`Device::is_last_resort_used`]): then another is to be deposited.
pub struct Came {
    ring: control::IncomingRing,
    brought: Brought,
}

enum Brought {
    Invitation(Box<Invitation>),
    Unopened(Option<supernode_e2ee::Error>),
    /// At the door of a room: it opens by the room's link.
    Knock,
}

/// The rooms that this device is in.
pub trait Rooms {
    /// The link of a room, if it stands.
    fn link(&self, room: &RoomId) -> Option<LinkSecret>;
    /// Who somebody who knocks at a room is to it; `None` where we are not in it.
    fn knocker(&self, room: &RoomId, who: &Member) -> Option<Knocker>;
}

/// What a ring is judged by.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    /// Who is rung.
    pub callee: &'a IdentityKey,
    /// By which relay.
    pub relay: &'a RelayPin,
    /// Which tickets count.
    pub rules: &'a Rules,
    /// The rooms that we are in.
    pub rooms: &'a dyn Rooms,
    /// The time, in seconds since 1970.
    pub unix_s: u64,
}

/// What becomes of a ring.
#[derive(Debug)]
pub enum Judged {
    /// A person is to be shown it.
    Shown(Incoming),
    /// Somebody comes back to a room of ours: they are let in, and nobody is asked ([`Incoming::admit`]).
    ComesBack(Incoming),
    /// Nobody is shown it, and the relay is told this.
    Declined(Box<client_message::Body>, NotShown),
    /// By our clock it does not hold, and our clock may be wrong: nobody has declined anything, so nothing is said.
    Missed(supernode_e2ee::Error),
}

/// Why nobody is shown a ring.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// Its keys say so.
    #[error("an invitation that does not open: {0}")]
    Sealed(supernode_e2ee::Error),
    /// No honest client makes such a one.
    #[error("an invitation that makes no sense")]
    Unreadable,
    /// By its own ticket it must not ring here.
    #[error("a ring without the right to it: {0}")]
    Right(Fault),
    /// Whoever is at the door does not have its link, or is shut out.
    #[error("a knock without the room's link, or of somebody who is shut out")]
    Knock,
    /// Of a room that this device is not in; another device of ours may be.
    #[error("a knock at a room that we are not in")]
    OtherRoom,
    /// They were put out of the room.
    #[error("a knock of somebody who was put out")]
    PutOut,
}

/// A ring that counts: that it is of whoever rings is verified.
#[derive(Debug)]
pub struct Incoming {
    pub(super) ring: Bytes,
    pub(super) caller: Member,
    greeting: Greeting,
    opener: Opener,
}

/// Who opens the call of two that a ring leads into.
#[derive(Debug)]
enum Opener {
    /// Whoever rings has opened it.
    Caller(Box<Group>),
    /// We do, for somebody who is at the door of a room with its link.
    Ourselves(ForLobby),
}

impl Came {
    /// Opens what came with a ring.
    pub fn open(ring: control::IncomingRing, device: &Device, unix_s: u64) -> Self {
        let brought = if !ring.room.is_empty() {
            Brought::Knock
        } else {
            match Invitation::open(device, &ring, unix_s) {
                Ok(invitation) => Brought::Invitation(Box::new(invitation)),
                Err(why) => Brought::Unopened(why),
            }
        };
        Self { ring, brought }
    }

    /// Checks whom it is from and by what right. One that fails is never shown: this device is busy, and others of ours judge
    /// for themselves. What whoever rings says of their devices is learned.
    pub fn judge(self, by: &Judge<'_>, revoked: &mut Revoked) -> Judged {
        let Self { ring, brought } = self;
        let incoming = match brought {
            Brought::Invitation(invitation) => {
                if let Err(fault) = invitation.check(by.callee, by.relay, by.rules, revoked, by.unix_s) {
                    return Judged::declined(ring.ring, true, NotShown::Right(fault));
                }
                let Invitation { caller, group, greeting, .. } = *invitation;
                Incoming { ring: ring.ring, caller, greeting, opener: Opener::Caller(Box::new(group)) }
            }
            Brought::Knock => {
                let link = RoomId::from_slice(&ring.room).ok().and_then(|room| by.rooms.link(&room));
                let Some((caller, at_door)) = link.and_then(|link| open_knock(&link, &ring, by.rules, revoked)) else {
                    return Judged::declined(ring.ring, true, NotShown::Knock);
                };
                let greeting = Greeting::Knock { room: at_door.room, package: at_door.package };
                Incoming { ring: ring.ring, caller, greeting, opener: Opener::Ourselves(at_door.for_lobby) }
            }
            // A clock is wrong, and it may be ours.
            Brought::Unopened(Some(error)) if error.is_of_time() => return Judged::Missed(error),
            Brought::Unopened(why) => {
                return Judged::declined(ring.ring, true, why.map_or(NotShown::Unreadable, NotShown::Sealed));
            }
        };
        incoming.judge_knock(by.rooms)
    }
}

impl Judged {
    fn declined(ring: Bytes, busy: bool, why: NotShown) -> Self {
        Self::Declined(Box::new(decline(ring, busy)), why)
    }
}

impl Incoming {
    /// A person is to hear of it; of some knocks nobody is.
    fn judge_knock(self, rooms: &dyn Rooms) -> Judged {
        let Greeting::Knock { room, .. } = &self.greeting else { return Judged::Shown(self) };
        match rooms.knocker(room, &self.caller) {
            Some(Knocker::Stranger) => Judged::Shown(self),
            Some(Knocker::Known) => Judged::ComesBack(self),
            Some(Knocker::PutOut) => Judged::declined(self.ring, false, NotShown::PutOut),
            None => Judged::declined(self.ring, true, NotShown::OtherRoom),
        }
    }

    /// Its 16 bytes.
    pub fn ring(&self) -> &Bytes {
        &self.ring
    }

    /// Who rings, and from which device: the invitation was sealed with their keys.
    pub fn caller(&self) -> Member {
        self.caller
    }

    /// What for.
    pub fn purpose(&self) -> Purpose {
        self.greeting.purpose()
    }

    /// Of a knock: whether whoever knocks has the link of that room.
    pub fn has_link(&self) -> bool {
        matches!(self.opener, Opener::Ourselves(_))
    }

    /// Answers into the call that whoever rings has opened, with a key package if they are to bring us into a room.
    /// `revocation` is our person's word on our devices.
    ///
    /// # Errors
    /// [`RingError::Settled`] for a knock with a room's link, which is to be admitted; what the group says.
    pub fn answer(
        self,
        package: Option<Vec<u8>>,
        revocation: Option<Revocation>,
    ) -> Result<(Answering, Next), RingError> {
        match self.opener {
            Opener::Caller(group) => Answering::into_their_call(self.ring, self.caller, group, package, revocation),
            Opener::Ourselves(_) => Err(RingError::Settled),
        }
    }

    /// Lets whoever knocks in. With the room's link they have no call for us yet: we open one, after `pause`
    /// ([`RoomState::pause_at_door`](crate::room::RoomState::pause_at_door)), unless another member does before.
    ///
    /// # Errors
    /// As [`Self::answer`]; [`RingError::Settled`] for what is no knock.
    pub fn admit(
        mut self,
        pause: Duration,
        revocation: Option<Revocation>,
    ) -> Result<(Admitting, Answering, Next), RingError> {
        let Greeting::Knock { package, .. } = &mut self.greeting else { return Err(RingError::Settled) };
        let admitting = Admitting::new(self.caller, std::mem::take(package));
        let (answering, next) = match self.opener {
            Opener::Caller(group) => Answering::into_their_call(self.ring, self.caller, group, None, revocation)?,
            Opener::Ourselves(for_lobby) => Answering::into_ours(self.ring, self.caller, for_lobby, pause),
        };
        Ok((admitting, answering, next))
    }
}

/// The request that says no: for the person, so that all their devices stop ringing; or, `busy`, for this device only, and
/// others may still answer.
pub fn decline(ring: Bytes, busy: bool) -> client_message::Body {
    client_message::Body::DeclineRing(DeclineRing { ring, busy })
}
