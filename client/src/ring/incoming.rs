//! Being rung.

use bytes::Bytes;
use supernode_calls::{
    rights::Purpose,
    rings::{self, Answering, Came, Incoming, Judge, Judged, LobbyTerms, Next, Rooms},
    room::Knocker,
};
use supernode_e2ee::LinkSecret;
use supernode_proto::{
    control::{self, RingResult},
    identity::{Revocation, RoomId},
};
use tokio::sync::watch;

use super::{Rings, SETTLED, perform};
use crate::{
    Call, Client, Error, Member, RoomOptions,
    client::Inner,
    rights::door,
    runtime::{sleep, spawn},
    sync::lock,
    tracks::frame::unix_s,
    wire::{link::Link, session},
};

/// Somebody rings. Dropped without a decision, this device says that it is busy.
pub struct IncomingRing {
    client: Client,
    ring: Bytes,
    caller: Member,
    purpose: Purpose,
    has_link: bool,
    /// Until it is answered.
    incoming: Option<Box<Incoming>>,
    ended: watch::Receiver<Option<RingResult>>,
    decided: bool,
}

impl IncomingRing {
    /// Who rings, and from which device: the invitation was sealed with their keys.
    pub fn caller(&self) -> Member {
        self.caller
    }

    /// What for.
    pub fn purpose(&self) -> Purpose {
        self.purpose.clone()
    }

    /// Of a knock: whether whoever knocks has the link of that room ([`Client::enter_by_link`]). A door may open by itself
    /// for them, and for nobody else: without the link, what the relay knows of the room was enough to knock, so somebody
    /// must look.
    pub fn has_link(&self) -> bool {
        self.has_link
    }

    /// Answers: into the call, or into the room that we are invited to, in which others cannot come back by us: see
    /// [`Self::accept`].
    ///
    /// # Errors
    /// [`Error::Refused`] if the ring is over, such as answered on another device; [`Error::NotAdmitted`] if the
    /// invitation came to nothing; [`Error::State`] for a knock, which is to be admitted; [`Error::Disconnected`],
    /// [`Error::TimedOut`].
    pub async fn answer(mut self) -> Result<Call, Error> {
        match self.purpose {
            Purpose::Call => self.talk(None).await,
            Purpose::Invitation { .. } => self.accept(RoomOptions::default()).await,
            _ => Err(Error::State("a knock is not answered: it is admitted or declined")),
        }
    }

    /// Goes into the room that we are invited to. `options` say how others come back by us; the name is the room's.
    ///
    /// # Errors
    /// As [`Self::answer`]; [`Error::State`] for what is no invitation.
    pub async fn accept(mut self, options: RoomOptions) -> Result<Call, Error> {
        if !matches!(self.purpose, Purpose::Invitation { .. }) {
            return Err(Error::State("no invitation"));
        }
        let (client, host) = (self.client.clone(), self.caller.identity);
        let package = client.inner.device.key_package()?;
        let lobby = self.talk(Some(package)).await?;
        let place = door::receive_admission(&lobby, &host, None).await?;
        // Whether the relay heard that we left it matters to nobody.
        let _ = lobby.leave().await;
        client.enter_room(place, options, None).await
    }

    /// Lets whoever knocks into the room.
    ///
    /// # Errors
    /// As [`Self::answer`]; [`Error::State`] for what is no knock, or if we have left the room;
    /// [`Error::EndToEnd`] if their key package is not theirs.
    pub async fn admit(mut self) -> Result<(), Error> {
        let Purpose::Knock { room } = self.purpose else { return Err(Error::State("no knock")) };
        let room = self.client.inner.room(&room.0).ok_or(Error::State("we are not in that room"))?;
        let client = self.client.clone();
        let link = room.hosting.as_ref().and_then(|hosting| hosting.door.link().cloned());
        // With the room's link they wait for one of those inside: until we are with them, another may be.
        self.decided = !self.has_link;
        let incoming = self.incoming.take().ok_or(SETTLED)?;
        let (admitting, answering, next) = incoming.admit(room.pause_at_door(), word(&client.inner))?;
        let lobby = self.carry_out(answering, next, link.as_ref()).await?;
        self.decided = true;
        door::admit(&client.inner, &room, lobby, admitting).await
    }

    /// Answers: into the call of two.
    async fn talk(&mut self, package: Option<Vec<u8>>) -> Result<Call, Error> {
        self.decided = true;
        let incoming = self.incoming.take().ok_or(SETTLED)?;
        let (answering, next) = incoming.answer(package, word(&self.client.inner))?;
        self.carry_out(answering, next, None).await
    }

    /// Answers, and waits for the caller to be in the call. `link` is that of the room at whose door they are.
    async fn carry_out(
        &mut self,
        mut answering: Answering,
        mut next: Next,
        link: Option<&LinkSecret>,
    ) -> Result<Call, Error> {
        let client = self.client.clone();
        let mut call = None;
        loop {
            next = match next {
                Next::Over => return call.ok_or(SETTLED),
                Next::Pause(pause) => {
                    tokio::select! {
                        _ = self.ended() => return Err(Error::State("another member is at the door")),
                        () = sleep(pause) => {}
                    }
                    let link = link.ok_or(Error::State("no such door"))?;
                    let (device, name) = (&*client.inner.device, RoomId::passing(rand::random()));
                    answering.open_lobby(LobbyTerms { device, link, name, unix_s: unix_s() })?
                }
                next => {
                    let link = client.inner.link().await?;
                    perform(&client, &link, next, &mut call, None).await?;
                    answering.handle_done()?
                }
            };
        }
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

    async fn refuse(mut self, busy: bool) -> Result<(), Error> {
        self.decided = true;
        let link = self.client.inner.link().await?;
        self.client.inner.request(&link, rings::decline(self.ring.clone(), busy)).await.map(drop)
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
}

impl Drop for IncomingRing {
    fn drop(&mut self) {
        lock(&self.client.inner.rings.incoming).remove(&self.ring);
        if !self.decided
            && !self.is_over()
            && let Some(link) = self.client.inner.link_now()
        {
            link.send(rings::decline(self.ring.clone(), true), None);
        }
    }
}

impl std::fmt::Debug for IncomingRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IncomingRing(..)")
    }
}

/// What our person has said of our devices.
fn word(inner: &Inner) -> Option<Revocation> {
    lock(&inner.revoked).of(&inner.device.identity())
}

impl Rooms for Inner {
    fn link(&self, room: &RoomId) -> Option<LinkSecret> {
        self.room(&room.0)?.hosting.as_ref()?.door.link().cloned()
    }

    fn knocker(&self, room: &RoomId, who: &Member) -> Option<Knocker> {
        Some(self.room(&room.0)?.knocker(who))
    }
}

impl Rings {
    /// Somebody rings: what a person is to be shown, if they are.
    pub(crate) fn handle_incoming(client: Client, link: &Link, ring: control::IncomingRing) -> Option<IncomingRing> {
        let inner = &client.inner;
        let came = Came::open(ring, &inner.device, unix_s());
        if inner.device.is_last_resort_used() {
            link.deposit(session::last_resort(inner), Vec::new());
        }
        let judged = {
            let (callee, relay) = (&inner.device.identity(), link.channel.relay());
            let rules = lock(&inner.rules);
            let judge = Judge { callee, relay, rules: &rules, rooms: &**inner, unix_s: unix_s() };
            came.judge(&judge, &mut lock(&inner.revoked))
        };
        match judged {
            Judged::Shown(incoming) => return Some(IncomingRing::new(client, incoming)),
            Judged::ComesBack(incoming) => {
                let ring = IncomingRing::new(client, incoming);
                spawn(async move {
                    if let Err(error) = ring.admit().await {
                        tracing::debug!(%error, "somebody could not be let in again");
                    }
                });
            }
            Judged::Declined(request, why) => {
                tracing::debug!(%why, "a ring that nobody is shown");
                link.send(*request, None);
            }
            Judged::Missed(error) => drop(inner.tell(crate::Event::MissedRing(error))),
        }
        None
    }
}

impl IncomingRing {
    fn new(client: Client, incoming: Incoming) -> Self {
        let (sender, ended) = watch::channel(None);
        let ring = incoming.ring().clone();
        lock(&client.inner.rings.incoming).insert(ring.clone(), sender);
        let (caller, purpose, has_link) = (incoming.caller(), incoming.purpose(), incoming.has_link());
        Self { client, ring, caller, purpose, has_link, incoming: Some(Box::new(incoming)), ended, decided: false }
    }
}
