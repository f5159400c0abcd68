//! How a member lets a guest in.

use std::{collections::VecDeque, time::Duration};

use supernode_e2ee::{Change, Error, Group};

use super::RingError;
use crate::{
    Member,
    rights::{self, Admission, Why},
    room::RosterEntry,
};

/// Longest that the next guest waits for the one before to come in. Who does not come after all loses the place again like
/// anybody who is gone.
pub const ENTRY_TIMEOUT: Duration = Duration::from_secs(5);

/// A guest on their way from the lobby, which is the call of two with them, into the room.
pub struct Admitting {
    guest: Member,
    package: Vec<u8>,
    to_say: VecDeque<Vec<u8>>,
    stage: Stage,
}

/// What is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    AwaitsLobby,
    Commits,
    Says,
    AwaitsGuest,
    Denies,
    Over,
}

/// What is to be done next for a guest.
#[derive(Debug, PartialEq, Eq)]
pub enum AdmissionStep {
    /// Only the guest and we are to be in the lobby ([`Admitting::is_quiet`]): while the caller removes its other devices, what
    /// is sealed would not open. Then `handle_done`.
    AwaitLobby,
    /// The guest's place is to be made by a commit in the room ([`GuestPlace::propose`]), for one guest after the other: each
    /// finds the group as its Welcome says. The next one's turn is after [`Self::Leave`]. Then [`Admitting::handle_place`].
    Commit(GuestPlace),
    /// This is to be said in the lobby. Then `handle_done`.
    Say(Vec<u8>),
    /// The guest is to come into the room, for at most [`ENTRY_TIMEOUT`]. Then `handle_done`, also if they do not.
    AwaitGuest(Member),
    /// It is over: the lobby is to be left.
    Leave,
}

/// A guest's place, to be made in whatever state the group is when its turn comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPlace {
    guest: Member,
    package: Vec<u8>,
}

impl GuestPlace {
    /// Makes the commit.
    ///
    /// # Errors
    /// As [`rights::propose_guest`].
    pub fn propose(&self, group: &mut Group, unix_s: u64) -> Result<Option<Change>, Error> {
        rights::propose_guest(group, &self.guest, &self.package, unix_s)
    }
}

impl Admitting {
    /// Of somebody who gave us this key package. The first step is [`AdmissionStep::AwaitLobby`], once the lobby is joined.
    pub fn new(guest: Member, package: Vec<u8>) -> Self {
        Self { guest, package, to_say: VecDeque::new(), stage: Stage::AwaitsLobby }
    }

    /// Whether nobody else is in the lobby.
    pub fn is_quiet(lobby: &[RosterEntry]) -> bool {
        lobby.len() <= 2
    }

    /// What was to be done is done.
    ///
    /// # Errors
    /// [`RingError::Settled`] if nothing was.
    pub fn handle_done(&mut self) -> Result<AdmissionStep, RingError> {
        match self.stage {
            Stage::AwaitsLobby => {
                self.stage = Stage::Commits;
                let package = std::mem::take(&mut self.package);
                Ok(AdmissionStep::Commit(GuestPlace { guest: self.guest, package }))
            }
            Stage::Says => Ok(self.say_next()),
            Stage::AwaitsGuest | Stage::Denies => {
                self.stage = Stage::Over;
                Ok(AdmissionStep::Leave)
            }
            Stage::Commits | Stage::Over => Err(RingError::Settled),
        }
    }

    /// The guest has a place. `admit` is what they are given with the Welcome to it
    /// ([`RoomState::admission`](crate::room::RoomState::admission)).
    ///
    /// # Errors
    /// If nobody was added.
    pub fn handle_place(
        &mut self,
        change: Option<Change>,
        admit: impl FnOnce(Vec<u8>) -> Option<Admission>,
    ) -> Result<AdmissionStep, RingError> {
        let welcome = change.and_then(|change| change.welcome).ok_or(RingError::Protocol("nobody was added"))?;
        let admission = admit(welcome).ok_or(RingError::Settled)?;
        self.to_say = admission.messages().into();
        self.stage = Stage::Says;
        Ok(self.say_next())
    }

    fn say_next(&mut self) -> AdmissionStep {
        match self.to_say.pop_front() {
            Some(message) => AdmissionStep::Say(message),
            None => {
                self.stage = Stage::AwaitsGuest;
                AdmissionStep::AwaitGuest(self.guest)
            }
        }
    }

    /// A step failed, for this if the keys are to blame. The guest is told, as far as it is anything of theirs; whoever
    /// does not hear it gives up by itself.
    pub fn handle_failed(&mut self, why: Option<&Error>) -> AdmissionStep {
        self.to_say.clear();
        if matches!(self.stage, Stage::Denies | Stage::Over) {
            self.stage = Stage::Over;
            return AdmissionStep::Leave;
        }
        self.stage = Stage::Denies;
        AdmissionStep::Say(rights::denied(why.map_or(Why::Unsaid, rights::why_not)))
    }
}
