//! Our answer to a ring.

use std::time::Duration;

use bytes::Bytes;
use supernode_e2ee::{Device, Group, LinkSecret};
use supernode_proto::{
    control::{AnswerRing, client_message},
    identity::{Revocation, RoomId},
};

use super::{Next, RingError};
use crate::{
    Member,
    rights::{self, ForLobby, Lobby},
};

/// An answer under way: into the call of whoever rings, or into one that we open for them.
#[derive(Debug)]
pub struct Answering {
    ring: Bytes,
    caller: Member,
    stage: Stage,
}

/// What is under way.
#[derive(Debug)]
enum Stage {
    /// Others may be at the door before us.
    Pauses(ForLobby),
    /// Ours is joined first, so that nobody else opens it.
    OpensLobby {
        answer: Vec<u8>,
    },
    /// Theirs is joined once the relay has taken our answer, and so nobody else's.
    Answers(Option<Box<Group>>),
    Joins,
    AwaitsCaller,
    Over,
}

/// What a lobby is opened with.
pub struct LobbyTerms<'a> {
    /// With which keys.
    pub device: &'a Device,
    /// The link of the room.
    pub link: &'a LinkSecret,
    /// A name for the lobby that nobody else has.
    pub name: RoomId,
    /// The time, in seconds since 1970.
    pub unix_s: u64,
}

impl Answering {
    pub(super) fn into_their_call(
        ring: Bytes,
        caller: Member,
        mut group: Box<Group>,
        package: Option<Vec<u8>>,
        revocation: Option<Revocation>,
    ) -> Result<(Self, Next), RingError> {
        let reply = group.seal_message(&rights::encode_reply(package, revocation))?;
        let next = answer(&ring, reply);
        Ok((Self { ring, caller, stage: Stage::Answers(Some(group)) }, next))
    }

    pub(super) fn into_ours(ring: Bytes, caller: Member, for_lobby: ForLobby, pause: Duration) -> (Self, Next) {
        (Self { ring, caller, stage: Stage::Pauses(for_lobby) }, Next::Pause(pause))
    }

    /// It is our turn at the door.
    ///
    /// # Errors
    /// Why there is no lobby; [`RingError::Settled`] if it is not our turn.
    pub fn open_lobby(&mut self, terms: LobbyTerms<'_>) -> Result<Next, RingError> {
        let Stage::Pauses(for_lobby) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(RingError::Settled);
        };
        let LobbyTerms { device, link, name, unix_s } = terms;
        let Lobby { group, answer } = Lobby::open(device, link, &self.caller, for_lobby, name, unix_s)?;
        self.stage = Stage::OpensLobby { answer };
        Ok(Next::Join(Box::new(group)))
    }

    /// The relay granted what it was asked for, or what was to be done is done.
    ///
    /// # Errors
    /// [`RingError::Settled`] if nothing was.
    pub fn handle_done(&mut self) -> Result<Next, RingError> {
        let await_caller = (Stage::AwaitsCaller, Next::AwaitDevice(self.caller.device));
        let (stage, next) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::OpensLobby { answer: payload } => (Stage::Answers(None), answer(&self.ring, payload)),
            Stage::Answers(Some(group)) => (Stage::Joins, Next::Join(group)),
            // The caller opened the room, or comes into it: whoever is alone in it was left.
            Stage::Answers(None) | Stage::Joins => await_caller,
            Stage::AwaitsCaller => (Stage::Over, Next::Over),
            Stage::Pauses(_) | Stage::Over => return Err(RingError::Settled),
        };
        self.stage = stage;
        Ok(next)
    }
}

fn answer(ring: &Bytes, payload: Vec<u8>) -> Next {
    Next::ask(client_message::Body::AnswerRing(AnswerRing { ring: ring.clone(), payload: payload.into() }))
}
