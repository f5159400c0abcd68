//! How a call begins: ringing a person on all their devices, and being rung.

use std::{collections::HashMap, sync::Mutex};

use bytes::Bytes;
use supernode_calls::{
    rights::{self, ForLobby, Greeting, Invitation, Outgoing, OutgoingError, Ringing},
    room::Knocker,
};
use supernode_e2ee::{Group, Pass};
use supernode_proto::{
    control::{
        self, AnswerRing, CancelRing, DeclineRing, KeyPackages, Ring, RingResult, TakeKeyPackages, client_message,
        relay_message,
    },
    identity::{DeviceKey, IdentityKey, RoomId},
    limits,
};
use tokio::sync::{oneshot, watch};

use crate::{
    Call, Client, Error, Member, Purpose, RoomOptions,
    rights::{door, standing},
    sync::lock,
    tracks::frame::unix_s,
    wire::{link::Link, session},
};

/// How a ring of ours ended.
#[derive(Debug)]
pub enum RingOutcome {
    /// Somebody answered: the call, in which only the device that answered is with us.
    Answered(Call),
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

impl Client {
    /// Rings the person who issued `pass` on all their devices. The room is open and its keys are made when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Refused`] if nobody is online, no device has a key package left, or the ticket does not grant rings;
    /// [`Error::EndToEnd`] if a key package is not that person's; [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn ring(&self, pass: &Pass) -> Result<OutgoingRing, Error> {
        self.ring_with(pass, Greeting::Call).await
    }

    /// As [`Self::ring`], to say something else.
    pub(crate) async fn ring_with(&self, pass: &Pass, greeting: Greeting) -> Result<OutgoingRing, Error> {
        self.ring_showing(pass, pass, greeting).await
    }

    /// The relay is shown one pass, and whoever is rung another, which are the same unless somebody lies.
    pub(crate) async fn ring_showing(
        &self,
        pass: &Pass,
        inside: &Pass,
        greeting: Greeting,
    ) -> Result<OutgoingRing, Error> {
        let inner = &self.inner;
        let link = inner.link().await?;
        let (ticket, proof) = link.channel.show(pass);
        let take = TakeKeyPackages { ticket: ticket.clone(), proof: proof.clone() };
        let take = client_message::Body::TakeKeyPackages(take);
        let relay_message::Body::KeyPackages(packages) = inner.request(&link, take).await? else {
            return Err(Error::Protocol("no KeyPackages for TakeKeyPackages"));
        };
        let outgoing = self.invite_devices(&pass.issuer(), packages, inside, &greeting);
        let Outgoing { group, payload } = outgoing.map_err(|error| match error {
            OutgoingError::EndToEnd(error) => Error::EndToEnd(error),
            OutgoingError::Revoked => Error::Protocol("a key package of a device that its owner has taken back"),
            OutgoingError::NobodyToRing => Error::Protocol("there is no key package to ring with"),
            OutgoingError::TooLarge(bytes) => {
                let (value, bound) = (bytes as u64, limits::RING_PAYLOAD_BYTES_MAX as u64);
                Error::TooLarge { field: "the Welcome for all devices", value, bound }
            }
        })?;
        let call = Call::join(self.clone(), group, None).await?;

        let ring = Ring { ticket, payload: payload.into(), proof, room_key: Bytes::new() };
        self.start_ring(&link, ring, Some(call)).await
    }

    /// Rings: by a ticket into the call that is open for it, or at the door of a room, where whoever answers opens one.
    pub(crate) async fn start_ring(&self, link: &Link, ring: Ring, call: Option<Call>) -> Result<OutgoingRing, Error> {
        let inner = &self.inner;
        let (outcome, settled) = oneshot::channel();
        let rings = inner.clone();
        let register = move |reply: Result<&relay_message::Body, &crate::Refusal>| {
            if let Ok(relay_message::Body::RingStarted(started)) = reply {
                lock(&rings.rings.outgoing).insert(started.ring.clone(), outcome);
            }
        };
        let ring = client_message::Body::Ring(ring);
        let reply = link.request_in_order(ring, inner.config.request_timeout, Some(Box::new(register))).await?;
        let relay_message::Body::RingStarted(started) = reply else {
            return Err(Error::Protocol("no RingStarted for Ring"));
        };
        Ok(OutgoingRing {
            client: self.clone(),
            ring: started.ring,
            devices: started.devices,
            settled: Some(settled),
            answered: None,
            reply: None,
            call,
        })
    }

    fn invite_devices(
        &self,
        callee: &IdentityKey,
        packages: KeyPackages,
        inside: &Pass,
        greeting: &Greeting,
    ) -> Result<Outgoing, OutgoingError> {
        let (device, room) = (&self.inner.device, RoomId::passing(rand::random()));
        let revocation = lock(&self.inner.revoked).of(&device.identity());
        let ringing = Ringing { pass: inside, greeting, revocation };
        let is_revoked = |who: &IdentityKey, device: &DeviceKey| lock(&self.inner.revoked).names(who, device);
        Outgoing::new(device, callee, packages, ringing, is_revoked, room, unix_s())
    }
}

const SETTLED: Error = Error::State("the ring is settled");

/// A ring of ours. Dropped before it is settled, it is cancelled.
pub struct OutgoingRing {
    client: Client,
    ring: Bytes,
    devices: u32,
    settled: Option<oneshot::Receiver<control::RingOutcome>>,
    answered: Option<DeviceKey>,
    reply: Option<(Member, Vec<u8>)>,
    call: Option<Call>,
}

impl OutgoingRing {
    /// How many devices ring.
    pub fn devices(&self) -> u32 {
        self.devices
    }

    /// Waits until the ring is settled. After an answer this also waits for the device that answered to come into the
    /// room, and removes the person's other devices from the group. Cancel safe until an answer has come.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if the session broke meanwhile, which cancels the ring; [`Error::TimedOut`] if the
    /// device that answered does not come; [`Error::State`] after the outcome was returned.
    pub async fn outcome(&mut self) -> Result<RingOutcome, Error> {
        if self.settled.is_some() {
            let outcome = self.settle().await?;
            match outcome.result() {
                RingResult::Answered => {
                    let device = DeviceKey::from_slice(&outcome.device);
                    self.answered = Some(device.map_err(|_| Error::Protocol("an answer from no device"))?);
                    // Before the group changes: then it would not open any more.
                    self.reply = self.call.as_ref().and_then(|call| open_reply(call, &outcome.payload, &self.client));
                }
                other => return other_outcome(other),
            }
        }
        let (device, call) = (self.answered.take().ok_or(SETTLED)?, self.call.take().ok_or(SETTLED)?);
        call.wait_for_device(&device).await?;
        call.keep_only(&device).await?;
        Ok(RingOutcome::Answered(call))
    }

    /// What the relay says in the end, once. Cancel safe.
    pub(crate) async fn settle(&mut self) -> Result<control::RingOutcome, Error> {
        let outcome = self.settled.as_mut().ok_or(SETTLED)?.await;
        self.settled = None;
        outcome.map_err(|_| self.client.inner.down())
    }

    /// Who answered, and the key package they did it with, if any.
    pub(crate) fn take_reply(&mut self) -> Option<(Member, Vec<u8>)> {
        self.reply.take()
    }

    /// Gives up.
    ///
    /// # Errors
    /// [`Error::Refused`] if the ring is settled already; [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn cancel(mut self) -> Result<(), Error> {
        self.settled = None;
        let link = self.client.inner.link().await?;
        let cancel = client_message::Body::CancelRing(CancelRing { ring: self.ring.clone() });
        self.client.inner.request(&link, cancel).await.map(drop)
    }
}

impl std::fmt::Debug for OutgoingRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingRing").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Drop for OutgoingRing {
    fn drop(&mut self) {
        lock(&self.client.inner.rings.outgoing).remove(&self.ring);
        if self.settled.is_some()
            && let Some(link) = self.client.inner.link_now()
        {
            link.send(client_message::Body::CancelRing(CancelRing { ring: self.ring.clone() }), None);
        }
    }
}

fn other_outcome(result: RingResult) -> Result<RingOutcome, Error> {
    Ok(match result {
        RingResult::Declined => RingOutcome::Declined,
        RingResult::Busy => RingOutcome::Busy,
        RingResult::Cancelled => RingOutcome::Cancelled,
        RingResult::Timeout => RingOutcome::TimedOut,
        RingResult::Gone => RingOutcome::Gone,
        RingResult::Answered | RingResult::AnsweredElsewhere | RingResult::Unspecified => {
            return Err(Error::Protocol("an outcome that no ring of ours can have"));
        }
    })
}

/// Somebody rings. Dropped without a decision, this device says that it is busy.
pub struct IncomingRing {
    client: Client,
    ring: Bytes,
    caller: Member,
    lobby: Option<Lobby>,
    greeting: Greeting,
    ended: watch::Receiver<Option<RingResult>>,
    decided: bool,
}

/// The call of two that a ring leads into.
enum Lobby {
    /// Whoever rings has opened it.
    Theirs(Box<Group>),
    /// We do, for somebody who is at the door of a room with its link.
    Ours(ForLobby),
}

impl IncomingRing {
    /// Who rings, and from which device: the invitation was sealed with their keys.
    pub fn caller(&self) -> Member {
        self.caller
    }

    /// What for.
    pub fn purpose(&self) -> Purpose {
        self.greeting.purpose()
    }

    /// Of a knock: whether whoever knocks has the link of that room ([`Client::enter_by_link`]). A door may open by itself
    /// for them, and for nobody else: without the link, what the relay knows of the room was enough to knock, so somebody
    /// must look.
    pub fn has_link(&self) -> bool {
        matches!(self.lobby, Some(Lobby::Ours(_)))
    }

    /// Answers: into the call, or into the room that we are invited to, in which others cannot come back by us: see
    /// [`Self::accept`].
    ///
    /// # Errors
    /// [`Error::Refused`] if the ring is over, such as answered on another device; [`Error::NotAdmitted`] if the
    /// invitation came to nothing; [`Error::State`] for a knock, which is to be admitted; [`Error::Disconnected`],
    /// [`Error::TimedOut`].
    pub async fn answer(self) -> Result<Call, Error> {
        match self.greeting {
            Greeting::Call => self.talk(None).await,
            Greeting::Invitation { .. } => self.accept(RoomOptions::default()).await,
            Greeting::Knock { .. } => Err(Error::State("a knock is not answered: it is admitted or declined")),
        }
    }

    /// Goes into the room that we are invited to. `options` say how others come back by us; the name is the room's.
    ///
    /// # Errors
    /// As [`Self::answer`]; [`Error::State`] for what is no invitation.
    pub async fn accept(self, options: RoomOptions) -> Result<Call, Error> {
        if !matches!(self.greeting, Greeting::Invitation { .. }) {
            return Err(Error::State("no invitation"));
        }
        let (client, host) = (self.client.clone(), self.caller.identity);
        let package = client.inner.device.key_package()?;
        let lobby = self.talk(Some(package)).await?;
        let (group, admission) = door::receive_admission(&lobby, &host).await?;
        // Whether the relay heard that we left it matters to nobody.
        let _ = lobby.leave().await;
        client.enter_room(group, admission, options, None).await
    }

    /// Lets whoever knocks into the room.
    ///
    /// # Errors
    /// As [`Self::answer`]; [`Error::State`] for what is no knock, or if we have left the room;
    /// [`Error::EndToEnd`] if their key package is not theirs.
    pub async fn admit(mut self) -> Result<(), Error> {
        let Greeting::Knock { room, package, .. } = &mut self.greeting else { return Err(Error::State("no knock")) };
        let package = std::mem::take(package);
        let room = self.client.inner.room(&room.0).ok_or(Error::State("we are not in that room"))?;
        let (client, guest) = (self.client.clone(), self.caller);
        let lobby = match self.lobby.take() {
            Some(Lobby::Ours(for_lobby)) => {
                let (ring, over) = (self.ring.clone(), self.ended());
                let lobby = standing::open_lobby(&client, &room, ring, &guest, for_lobby, over).await?;
                self.decided = true;
                lobby
            }
            theirs => {
                self.lobby = theirs;
                self.talk(None).await?
            }
        };
        door::admit(&client.inner, &room, lobby, guest, package).await
    }

    /// Answers: into the call of two.
    async fn talk(mut self, package: Option<Vec<u8>>) -> Result<Call, Error> {
        self.decided = true;
        let Some(Lobby::Theirs(mut group)) = self.lobby.take() else { return Err(SETTLED) };
        let inner = &self.client.inner;
        let revocation = lock(&inner.revoked).of(&inner.device.identity());
        let reply = group.seal_message(&rights::encode_reply(package, revocation))?;
        let answer = AnswerRing { ring: self.ring.clone(), payload: reply.into() };
        let link = self.client.inner.link().await?;
        self.client.inner.request(&link, client_message::Body::AnswerRing(answer)).await?;
        let call = Call::join(self.client.clone(), *group, None).await?;
        // The caller opened the room: whoever is alone in it was left.
        call.wait_for_device(&self.caller.device).await?;
        Ok(call)
    }

    /// Declines for the person: all their devices stop ringing.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn decline(self) -> Result<(), Error> {
        self.refuse(false).await
    }

    /// This device is busy; others may still answer.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub async fn busy(self) -> Result<(), Error> {
        self.refuse(true).await
    }

    /// Waits until the ring stops without our doing: cancelled, timed out or answered elsewhere. Cancel safe.
    pub async fn ended(&mut self) -> RingResult {
        let ended = self.ended.wait_for(Option::is_some).await;
        ended.ok().and_then(|result| *result).unwrap_or(RingResult::Gone)
    }

    /// Whether it stopped ringing without our doing.
    pub fn is_over(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// As [`Self::decline`], without waiting.
    fn dismiss(mut self) {
        self.decided = true;
        if let Some(link) = self.client.inner.link_now() {
            link.send(decline(self.ring.clone(), false), None);
        }
    }

    async fn refuse(mut self, busy: bool) -> Result<(), Error> {
        self.decided = true;
        let link = self.client.inner.link().await?;
        self.client.inner.request(&link, decline(self.ring.clone(), busy)).await.map(drop)
    }
}

impl Drop for IncomingRing {
    fn drop(&mut self) {
        lock(&self.client.inner.rings.incoming).remove(&self.ring);
        if !self.decided
            && self.ended.borrow().is_none()
            && let Some(link) = self.client.inner.link_now()
        {
            link.send(decline(self.ring.clone(), true), None);
        }
    }
}

impl std::fmt::Debug for IncomingRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IncomingRing(..)")
    }
}

fn decline(ring: Bytes, busy: bool) -> client_message::Body {
    client_message::Body::DeclineRing(DeclineRing { ring, busy })
}

/// The rings under way, by their 16 bytes.
#[derive(Default)]
pub(crate) struct Rings {
    outgoing: Mutex<HashMap<Bytes, oneshot::Sender<control::RingOutcome>>>,
    incoming: Mutex<HashMap<Bytes, watch::Sender<Option<RingResult>>>>,
}

impl Rings {
    pub(crate) fn handle_outcome(&self, outcome: control::RingOutcome) {
        if let Some(waiting) = lock(&self.outgoing).remove(&outcome.ring) {
            // Whoever rang may have gone.
            let _ = waiting.send(outcome);
        }
    }

    /// The connection is gone, and with it a ring of ours.
    pub(crate) fn handle_lost(&self, ring: &Bytes) {
        lock(&self.outgoing).remove(ring);
    }

    pub(crate) fn handle_ended(&self, ring: &Bytes, result: RingResult) {
        if let Some(ringing) = lock(&self.incoming).get(ring) {
            ringing.send_replace(Some(result));
        }
    }

    /// Opens the invitation and checks whom it is from and by what right. One that fails is never shown: this device is
    /// busy, and others of ours judge for themselves.
    pub(crate) fn handle_incoming(client: Client, link: &Link, ring: control::IncomingRing) -> Option<IncomingRing> {
        let inner = &client.inner;
        if !ring.room.is_empty() {
            let room = inner.room(&ring.room);
            let link_secret = room.as_ref().and_then(|room| room.hosting.as_ref()?.door.link());
            let knock = link_secret
                .and_then(|secret| rights::open_knock(secret, &ring, &lock(&inner.rules), &mut lock(&inner.revoked)));
            let Some((caller, at_door)) = knock else {
                link.send(decline(ring.ring, true), None);
                return None;
            };
            let greeting = Greeting::Knock { room: at_door.room, package: at_door.package };
            return Self::show(client, ring.ring, caller, greeting, Lobby::Ours(at_door.for_lobby));
        }
        let invitation = Invitation::open(&inner.device, &ring, unix_s());
        if inner.device.is_last_resort_used() {
            link.deposit(session::last_resort(inner), Vec::new());
        }
        let invitation = invitation.and_then(|invitation| {
            let (callee, relay) = (inner.device.identity(), *link.channel.relay());
            let rules = lock(&inner.rules);
            let checked = invitation.check(&callee, &relay, &rules, &mut lock(&inner.revoked), unix_s());
            let checked = checked.inspect_err(|fault| tracing::debug!(%fault, "a ring without the right to it"));
            checked.map(|()| invitation).map_err(|_| None)
        });
        let Invitation { caller, group, greeting, .. } = match invitation {
            Ok(invitation) => invitation,
            // A clock is wrong, and it may be ours: nobody has declined anything, so nothing is said.
            Err(Some(error)) if error.is_of_time() => {
                inner.tell(crate::Event::MissedRing(error));
                return None;
            }
            Err(why) => {
                if let Some(error) = why {
                    tracing::debug!(%error, "an invitation that does not open");
                }
                link.send(decline(ring.ring, true), None);
                return None;
            }
        };
        Self::show(client, ring.ring, caller, greeting, Lobby::Theirs(Box::new(group)))
    }

    /// A ring that a person is to hear of; some knocks are none.
    fn show(client: Client, ring: Bytes, caller: Member, greeting: Greeting, lobby: Lobby) -> Option<IncomingRing> {
        let (sender, ended) = watch::channel(None);
        lock(&client.inner.rings.incoming).insert(ring.clone(), sender);
        let ring = IncomingRing { client, ring, caller, lobby: Some(lobby), greeting, ended, decided: false };
        let Purpose::Knock { room } = ring.purpose() else { return Some(ring) };
        // Of a room that this device is not in; another device of ours may be.
        let room = ring.client.inner.room(&room.0)?;
        match room.knocker(&caller) {
            Knocker::Stranger => return Some(ring),
            Knocker::PutOut => ring.dismiss(),
            Knocker::Known => drop(tokio::spawn(async move {
                if let Err(error) = ring.admit().await {
                    tracing::debug!(%error, "somebody could not be let in again");
                }
            })),
        }
        None
    }
}

/// Who answered, and the key package in the answer, if there is one.
fn open_reply(call: &Call, sealed: &[u8], client: &Client) -> Option<(Member, Vec<u8>)> {
    let (from, plain) = call.room.open_aside(sealed)?;
    let (package, revocation) = rights::decode_reply(&plain)?;
    if let Some(word) = revocation.filter(|word| word.identity == from.identity) {
        lock(&client.inner.revoked).learn(word);
    }
    Some((from, package?))
}
