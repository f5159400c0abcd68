//! Ringing a person on all their devices, or those who are in a room.

use std::{sync::Arc, time::Duration};

use supernode_calls::{
    rights::Greeting,
    rings::{Caller, Calling, End, Next},
};
use supernode_e2ee::Pass;
use supernode_proto::{
    control::{self, RefusalReason, relay_message},
    identity::{DeviceKey, IdentityKey, RoomId},
};
use tokio::sync::oneshot;

use super::{SETTLED, perform};
use crate::{
    Call, Client, Error, Member, Refusal,
    client::Inner,
    runtime::sleep,
    sync::lock,
    tracks::frame::unix_s,
    wire::link::{Link, OnReply},
};

/// How soon somebody who is not there is rung again: fifteen times in a ring's time, of the sixty that a relay grants in a minute.
const RING_AGAIN: Duration = Duration::from_secs(3);

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

    /// As [`Self::ring`], and as long as nobody is there again every few seconds, for so long: a closed page of theirs may have
    /// been woken ([`Self::set_push_endpoint`]). Nothing tells whether it was, so this goes on whoever is rung.
    /// Dropped, it rings no more.
    ///
    /// # Errors
    /// As [`Self::ring`], once the time is over.
    pub async fn ring_patiently(&self, pass: &Pass, patience: Duration) -> Result<OutgoingRing, Error> {
        let mut left = patience;
        loop {
            let error = match self.ring(pass).await {
                Ok(ring) => return Ok(ring),
                Err(error) => error,
            };
            // Whoever has just come in has not deposited anything yet.
            let may_come = matches!(
                &error,
                Error::Refused(refusal)
                    if matches!(refusal.reason, RefusalReason::Offline | RefusalReason::NoKeyPackage)
            );
            if !may_come || left < RING_AGAIN {
                return Err(error);
            }
            left -= RING_AGAIN;
            sleep(RING_AGAIN).await;
        }
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
        let link = self.inner.link().await?;
        let (calling, next) = Calling::by_pass(&link.channel, pass, inside, greeting);
        OutgoingRing::start(self, &link, calling, next).await
    }
}

/// A ring of ours. Dropped before it is settled, it is cancelled.
pub struct OutgoingRing {
    client: Client,
    calling: Calling,
    settled: oneshot::Receiver<control::RingOutcome>,
    /// What comes next, until somebody does it.
    next: Option<Next>,
    call: Option<Call>,
}

impl OutgoingRing {
    /// Does what comes first, until it rings.
    pub(crate) async fn start(
        client: &Client,
        link: &Link,
        mut calling: Calling,
        mut next: Next,
    ) -> Result<Self, Error> {
        let (mut call, mut settled) = (None, None);
        loop {
            if matches!(next, Next::AwaitOutcome) {
                let (client, settled) = (client.clone(), settled.ok_or(SETTLED)?);
                return Ok(Self { client, calling, settled, next: Some(next), call });
            }
            let (in_order, started) = when_started(&client.inner);
            settled = Some(started);
            next = match perform(client, link, next, &mut call, Some(in_order)).await? {
                Some(reply) => handle_reply(&client.inner, &mut calling, reply)?,
                None => calling.handle_done()?,
            };
        }
    }

    /// How many devices ring.
    pub fn devices(&self) -> u32 {
        self.calling.devices()
    }

    /// Waits until the ring is settled. After an answer this also waits for the device that answered to come into the
    /// room, and removes the person's other devices from the group. Cancel safe until an answer has come.
    ///
    /// # Errors
    /// [`Error::Disconnected`] if the session broke meanwhile, which cancels the ring; [`Error::TimedOut`] if the
    /// device that answered does not come; [`Error::State`] after the outcome was returned.
    pub async fn outcome(&mut self) -> Result<RingOutcome, Error> {
        Ok(match self.end().await? {
            End::Answered => RingOutcome::Answered(self.call.take().ok_or(SETTLED)?),
            End::Declined => RingOutcome::Declined,
            End::Busy => RingOutcome::Busy,
            End::Cancelled => RingOutcome::Cancelled,
            End::TimedOut => RingOutcome::TimedOut,
            End::Gone => RingOutcome::Gone,
        })
    }

    /// As [`Self::outcome`].
    async fn end(&mut self) -> Result<End, Error> {
        if matches!(self.next, Some(Next::AwaitOutcome)) {
            let outcome = (&mut self.settled).await;
            self.next = None;
            let outcome = outcome.map_err(|_| {
                self.calling.handle_lost();
                self.client.inner.down()
            })?;
            self.next = Some(self.handle_outcome(&outcome)?);
        }
        let mut next = self.next.take().ok_or(SETTLED)?;
        while !matches!(next, Next::Over) {
            let link = self.client.inner.link().await?;
            next = match perform(&self.client, &link, next, &mut self.call, None).await? {
                Some(reply) => handle_reply(&self.client.inner, &mut self.calling, reply)?,
                None => self.calling.handle_done()?,
            };
        }
        self.calling.end().ok_or(SETTLED)
    }

    fn handle_outcome(&mut self, outcome: &control::RingOutcome) -> Result<Next, Error> {
        let Self { client, calling, call, .. } = self;
        let open = |sealed: &[u8]| call.as_ref().and_then(|call| call.room.open_aside(sealed));
        let next = calling.handle_outcome(outcome, &client.inner.device, unix_s(), open)?;
        if let Some(word) = calling.take_word() {
            lock(&client.inner.revoked).learn(word);
        }
        Ok(next)
    }

    /// Of a knock: who lets us in, and the call with them.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`], or [`Error::State`] if nobody is at the door; as [`Self::outcome`].
    pub(crate) async fn lobby(&mut self) -> Result<(Call, IdentityKey), Error> {
        self.end().await?.of_knock()?;
        Ok((self.call.take().ok_or(SETTLED)?, self.calling.host().ok_or(SETTLED)?))
    }

    /// Who answered, and the key package they did it with, if any.
    pub(crate) fn take_reply(&mut self) -> Option<(Member, Vec<u8>)> {
        self.calling.take_reply()
    }

    /// Gives up.
    ///
    /// # Errors
    /// [`Error::Refused`] if the ring is settled already; [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn cancel(mut self) -> Result<(), Error> {
        let cancel = self.calling.cancel_request();
        self.calling.handle_lost();
        let link = self.client.inner.link().await?;
        self.client.inner.request(&link, cancel).await.map(drop)
    }
}

/// To be run on a reply: from the moment that a ring has begun, its outcome has somewhere to go.
fn when_started(inner: &Arc<Inner>) -> (OnReply, oneshot::Receiver<control::RingOutcome>) {
    let (outcome, settled) = oneshot::channel();
    let inner = inner.clone();
    let register = move |reply: Result<&relay_message::Body, &Refusal>| {
        if let Ok(relay_message::Body::RingStarted(started)) = reply {
            lock(&inner.rings.outgoing).insert(started.ring.clone(), outcome);
        }
    };
    (Box::new(register), settled)
}

fn handle_reply(inner: &Inner, calling: &mut Calling, reply: relay_message::Body) -> Result<Next, Error> {
    let revocation = lock(&inner.revoked).of(&inner.device.identity());
    let is_revoked = |who: &IdentityKey, device: &DeviceKey| lock(&inner.revoked).names(who, device);
    let name = RoomId::passing(rand::random());
    let by = Caller { device: &inner.device, revocation, is_revoked: &is_revoked, name, unix_s: unix_s() };
    Ok(calling.handle_reply(reply, by)?)
}

impl std::fmt::Debug for OutgoingRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingRing").field("devices", &self.devices()).finish_non_exhaustive()
    }
}

impl Drop for OutgoingRing {
    fn drop(&mut self) {
        lock(&self.client.inner.rings.outgoing).remove(self.calling.ring());
        if self.calling.is_ringing()
            && let Some(link) = self.client.inner.link_now()
        {
            link.send(self.calling.cancel_request(), None);
        }
    }
}
