//! A ring of ours.

use bytes::Bytes;
use supernode_e2ee::{Device, LinkSecret, Pass};
use supernode_proto::{
    control::{CancelRing, KeyPackages, Ring, RingOutcome, RingResult, TakeKeyPackages, client_message, relay_message},
    identity::{DeviceKey, IdentityKey, Revocation, RoomId},
};
use supernode_session::Channel;

use super::{Next, RingError};
use crate::{
    Member,
    rights::{self, Greeting, Outgoing, Ringing},
};

/// A ring of ours: of all devices of a person, for whom we open a call first; or of those who are in a room that stands, of
/// whom whoever answers opens one.
pub struct Calling {
    to: To,
    stage: Stage,
    ring: Bytes,
    devices: u32,
    host: Option<IdentityKey>,
    reply: Option<(Member, Vec<u8>)>,
    word: Option<Revocation>,
}

/// Who is rung.
enum To {
    Person { ticket: Bytes, proof: Bytes, inside: Box<Pass>, greeting: Greeting },
    Door { link: LinkSecret, shown: Vec<u8> },
}

/// What is under way.
enum Stage {
    TakesPackages,
    OpensCall { payload: Vec<u8> },
    Starts,
    Rings,
    AwaitsDevice(DeviceKey),
    RemovesOthers,
    JoinsLobby,
    Over(Option<End>),
}

/// How a ring of ours ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody answered, and is with us in the call that was joined.
    Answered,
    /// The person does not want to.
    Declined,
    /// Every device said that it is busy.
    Busy,
    /// We cancelled it.
    Cancelled,
    /// Nobody answered in time.
    TimedOut,
    /// Every device went away.
    Gone,
}

impl End {
    /// Of a knock: whether somebody lets us in.
    ///
    /// # Errors
    /// [`RingError::NotAdmitted`], [`RingError::NobodyAtDoor`].
    pub fn of_knock(self) -> Result<(), RingError> {
        match self {
            Self::Answered => Ok(()),
            Self::Declined => Err(RingError::NotAdmitted),
            Self::Busy | Self::Cancelled | Self::TimedOut | Self::Gone => Err(RingError::NobodyAtDoor),
        }
    }
}

/// Who rings.
pub struct Caller<'a> {
    /// With which keys.
    pub device: &'a Device,
    /// Our person's newest word on our devices.
    pub revocation: Option<Revocation>,
    /// Which devices of others count no more ([`Revoked::names`](crate::rights::Revoked::names)).
    pub is_revoked: &'a dyn Fn(&IdentityKey, &DeviceKey) -> bool,
    /// A name for the call that nobody else has.
    pub name: RoomId,
    /// The time, in seconds since 1970.
    pub unix_s: u64,
}

impl Calling {
    /// Of the person who issued `pass`. `inside` is the pass that they are shown: the same, unless somebody lies.
    pub fn by_pass(channel: &Channel, pass: &Pass, inside: &Pass, greeting: Greeting) -> (Self, Next) {
        let (ticket, proof) = channel.show(pass);
        let take = TakeKeyPackages { ticket: ticket.clone(), proof: proof.clone() };
        let host = pass.issuer();
        let to = To::Person { ticket, proof, inside: Box::new(inside.clone()), greeting };
        let calling = Self { host: Some(host), ..Self::new(to, Stage::TakesPackages) };
        (calling, Next::ask(client_message::Body::TakeKeyPackages(take)))
    }

    /// Of those who are in the room of this link.
    ///
    /// # Errors
    /// If no key packages can be made.
    pub fn at_door(
        channel: &Channel,
        link: &LinkSecret,
        device: &Device,
        revocation: Option<&Revocation>,
    ) -> Result<(Self, Next), RingError> {
        let guest = Member { identity: device.identity(), device: device.key() };
        let packages = [device.key_package()?, device.key_package()?];
        let (payload, shown) = rights::knock(link, &guest, packages, revocation);
        let (room_key, proof) = channel.show_room(&link.room_secret());
        let ring = Ring { ticket: Bytes::new(), payload: payload.into(), proof, room_key };
        let calling = Self::new(To::Door { link: link.clone(), shown }, Stage::Starts);
        Ok((calling, Next::ask(client_message::Body::Ring(ring))))
    }

    fn new(to: To, stage: Stage) -> Self {
        Self { to, stage, ring: Bytes::new(), devices: 0, host: None, reply: None, word: None }
    }

    /// The relay granted what it was asked for.
    ///
    /// # Errors
    /// Why that leads nowhere.
    pub fn handle_reply(&mut self, reply: relay_message::Body, by: Caller<'_>) -> Result<Next, RingError> {
        match self.stage {
            Stage::TakesPackages => {
                let relay_message::Body::KeyPackages(packages) = reply else {
                    return Err(RingError::Protocol("no KeyPackages for TakeKeyPackages"));
                };
                self.invite_devices(packages, by)
            }
            Stage::Starts => {
                let relay_message::Body::RingStarted(started) = reply else {
                    return Err(RingError::Protocol("no RingStarted for Ring"));
                };
                (self.ring, self.devices, self.stage) = (started.ring, started.devices, Stage::Rings);
                Ok(Next::AwaitOutcome)
            }
            _ => Err(RingError::Settled),
        }
    }

    fn invite_devices(&mut self, packages: KeyPackages, by: Caller<'_>) -> Result<Next, RingError> {
        let (To::Person { inside, greeting, .. }, Some(callee)) = (&self.to, &self.host) else {
            return Err(RingError::Settled);
        };
        let Caller { device, revocation, is_revoked, name, unix_s } = by;
        let ringing = Ringing { pass: inside, greeting, revocation };
        let Outgoing { group, payload } = Outgoing::new(device, callee, packages, ringing, is_revoked, name, unix_s)?;
        self.stage = Stage::OpensCall { payload };
        Ok(Next::Join(Box::new(group)))
    }

    /// What was to be done is done.
    ///
    /// # Errors
    /// [`RingError::Settled`] if nothing was.
    pub fn handle_done(&mut self) -> Result<Next, RingError> {
        let (stage, next) = match (std::mem::replace(&mut self.stage, Stage::Over(None)), &self.to) {
            (Stage::OpensCall { payload }, To::Person { ticket, proof, .. }) => {
                let (ticket, proof) = (ticket.clone(), proof.clone());
                let ring = Ring { ticket, payload: payload.into(), proof, room_key: Bytes::new() };
                (Stage::Starts, Next::ask(client_message::Body::Ring(ring)))
            }
            (Stage::AwaitsDevice(device), _) => (Stage::RemovesOthers, Next::KeepOnly(device)),
            (Stage::RemovesOthers | Stage::JoinsLobby, _) => (Stage::Over(Some(End::Answered)), Next::Over),
            (stage, _) => {
                self.stage = stage;
                return Err(RingError::Settled);
            }
        };
        self.stage = stage;
        Ok(next)
    }

    /// How the ring ended, as the relay says. `open` opens what whoever answered says: a message of the call's group, before
    /// that changes ([`Membership::open_aside`](crate::room::Membership::open_aside)).
    ///
    /// # Errors
    /// Why that leads nowhere.
    pub fn handle_outcome(
        &mut self,
        outcome: &RingOutcome,
        device: &Device,
        unix_s: u64,
        open: impl FnOnce(&[u8]) -> Option<(Member, Vec<u8>)>,
    ) -> Result<Next, RingError> {
        if !self.is_ringing() {
            return Err(RingError::Settled);
        }
        self.stage = Stage::Over(None);
        let end = end_of(outcome.result())?;
        if end != End::Answered {
            self.stage = Stage::Over(Some(end));
            return Ok(Next::Over);
        }
        match &self.to {
            To::Person { .. } => {
                let no_device = |_| RingError::Protocol("an answer from no device");
                let answered_by = DeviceKey::from_slice(&outcome.device).map_err(no_device)?;
                self.take_in_reply(open(&outcome.payload));
                self.stage = Stage::AwaitsDevice(answered_by);
                Ok(Next::AwaitDevice(answered_by))
            }
            To::Door { link, shown } => {
                let (host, welcome) = rights::read_answer(link, shown, &outcome.payload)
                    .ok_or(RingError::Protocol("an answer at the door by somebody who does not have the link"))?;
                let lobby = device.join(&welcome, &host, &[], unix_s)?;
                self.host = Some(host);
                self.stage = Stage::JoinsLobby;
                Ok(Next::Join(Box::new(lobby)))
            }
        }
    }

    fn take_in_reply(&mut self, said: Option<(Member, Vec<u8>)>) {
        let reply = said.and_then(|(from, plain)| Some((from, rights::decode_reply(&plain)?)));
        let Some((from, (package, word))) = reply else { return };
        self.word = word.filter(|word| word.identity == from.identity);
        self.reply = package.map(|package| (from, package));
    }

    /// The connection is gone, and the ring with it.
    pub fn handle_lost(&mut self) {
        self.stage = Stage::Over(None);
    }

    /// The request by which we give it up.
    pub fn cancel_request(&self) -> client_message::Body {
        client_message::Body::CancelRing(CancelRing { ring: self.ring.clone() })
    }

    /// Whether it rings, so that it is to be cancelled when nobody waits for it any more.
    pub fn is_ringing(&self) -> bool {
        matches!(self.stage, Stage::Rings)
    }

    /// Its 16 bytes, once the relay has said them.
    pub fn ring(&self) -> &Bytes {
        &self.ring
    }

    /// How many devices ring.
    pub fn devices(&self) -> u32 {
        self.devices
    }

    /// How it ended, once it has.
    pub fn end(&self) -> Option<End> {
        if let Stage::Over(end) = self.stage { end } else { None }
    }

    /// Whom we rang, or who answered at the door: for a knock, whose word it is that lets us in.
    pub fn host(&self) -> Option<IdentityKey> {
        self.host
    }

    /// Who answered, and the key package they did it with, if any; once.
    pub fn take_reply(&mut self) -> Option<(Member, Vec<u8>)> {
        self.reply.take()
    }

    /// What whoever answered says of their devices: to be learned ([`Revoked::learn`](crate::rights::Revoked::learn)).
    pub fn take_word(&mut self) -> Option<Revocation> {
        self.word.take()
    }
}

fn end_of(result: RingResult) -> Result<End, RingError> {
    Ok(match result {
        RingResult::Answered => End::Answered,
        RingResult::Declined => End::Declined,
        RingResult::Busy => End::Busy,
        RingResult::Cancelled => End::Cancelled,
        RingResult::Timeout => End::TimedOut,
        RingResult::Gone => End::Gone,
        RingResult::AnsweredElsewhere | RingResult::Unspecified => {
            return Err(RingError::Protocol("an outcome that no ring of ours can have"));
        }
    })
}
