//! A call: who is in it, its tracks, its figures, its end.

use std::sync::Arc;

use supernode_calls::{
    rights,
    room::{AfterRefusal, Attempts, Entry, has_left},
};
use supernode_e2ee::{Change, Group, Keys};
use supernode_proto::{
    control::{Rung, TrackKind, client_message},
    identity::{DeviceKey, IdentityKey},
};
use tokio::sync::broadcast;

use crate::{
    CallEvent, Client, Error, RemoteTrack,
    client::Inner,
    error::CallEnd,
    rights::door::Hosting,
    room::{Member, Room, RosterEntry, commit, entry, keeper},
    runtime::{long, sleep, sleep_until, timeout},
    stats::CallStats,
    sync::lock,
    wire::{backoff::random_wait, clock},
};

/// A call, which is a room with end-to-end keys: cheap to clone; when the last clone, publisher and subscription of it
/// is gone, we leave.
#[derive(Clone)]
pub struct Call {
    pub(crate) client: Client,
    pub(crate) room: Arc<Room>,
    _guard: Arc<LeaveOnDrop>,
}

impl Call {
    /// Joins the room of a group, or opens it.
    pub(crate) async fn join(client: Client, group: Group, hosting: Option<Hosting>) -> Result<Self, Error> {
        let renew_within = client.inner.config.renew_keys_within;
        let room = long(move || Room::new(group, hosting, renew_within)).await?;
        let link = client.inner.link().await?;
        lock(&client.inner.rooms).insert(room.id, room.clone());
        // From here on the drop of the call cleans up.
        let guard = Arc::new(LeaveOnDrop { inner: client.inner.clone(), room: room.clone() });
        let call = Self { client, room, _guard: guard };
        let inner = &call.client.inner;
        entry::enter(inner, &link, &call.room, Entry::first(), None).await?;
        keeper::start(inner.clone(), call.room.clone());
        if call.room.hosting.is_none() {
            return Ok(call);
        }
        // Somebody may have to let us in again first. Where nobody can, it is over.
        let caught_up = call.room.wait_until(|room| !room.is_behind());
        let caught_up = timeout(inner.config.reconnect_for, caught_up).await;
        caught_up.map_err(|_| Error::TimedOut("the room"))?;
        match call.room.end() {
            Some(end) => Err(Error::CallEnded(end)),
            None => Ok(call),
        }
    }

    /// Everybody else with a place in the group who is connected to the room now.
    pub fn members(&self) -> Vec<Member> {
        self.room.members()
    }

    /// How many are connected to the room without a place in the group: nobody can say who they are, they hear nothing
    /// and are not heard. They are put out after [`Config::rejoin_grace`](crate::Config::rejoin_grace).
    pub fn outsiders(&self) -> usize {
        self.room.outsiders()
    }

    /// Everybody with a place in the group, ourselves too, and whether they are connected.
    pub fn roster(&self) -> Vec<RosterEntry> {
        self.room.roster()
    }

    /// Waits until so many are in the room, ourselves included, with a place in the group and connected. Cancel safe.
    ///
    /// # Errors
    /// [`Error::CallEnded`].
    pub async fn wait_for_members(&self, count: usize) -> Result<(), Error> {
        let here = || self.roster().iter().filter(|entry| entry.is_here).count() >= count;
        self.wait_until(|| here().then_some(())).await
    }

    /// 60 digits in groups of five that are the same for everybody in the call, unless somebody sits in between. They
    /// change whenever the keys do.
    ///
    /// # Errors
    /// [`Error::EndToEnd`] once we were removed.
    pub fn safety_number(&self) -> Result<String, Error> {
        self.room.safety_number()
    }

    /// By what the call's keys are agreed on, and why by nothing better: to be shown beside the safety number.
    pub fn keys(&self) -> Keys {
        self.room.keys()
    }

    /// 60 digits in groups of five for us and another person, the same on both sides, in every call and for ever: compared
    /// once, they need not be compared again.
    pub fn person_number(&self, other: &IdentityKey) -> String {
        supernode_e2ee::person_number(&self.client.identity(), other)
    }

    /// Who is connected and in another group than we are: while there is somebody, nothing is sent, unless
    /// [`Self::go_on`] was called.
    pub fn split_from(&self) -> Vec<Member> {
        self.room.split_from()
    }

    /// Goes on sending to those who are in the same group as we are, although others are not: for a person to decide.
    pub fn go_on(&self) {
        self.room.accept_split();
    }

    /// What happens from now on. A reader that falls far behind loses the oldest events and is told how many.
    pub fn events(&self) -> broadcast::Receiver<CallEvent> {
        self.room.events.subscribe()
    }

    /// The tracks that others publish or published, those we do not subscribe to included.
    pub fn tracks(&self) -> Vec<Arc<RemoteTrack>> {
        self.room.remote_tracks()
    }

    /// Waits for somebody's track of this kind. Cancel safe.
    ///
    /// # Errors
    /// [`Error::CallEnded`].
    pub async fn track(&self, kind: TrackKind) -> Result<Arc<RemoteTrack>, Error> {
        let found = || self.tracks().into_iter().find(|track| track.kind() == kind);
        self.wait_until(found).await
    }

    /// What the relay sends us at most at the moment.
    pub fn rung(&self) -> Rung {
        *self.client.inner.rung.borrow()
    }

    /// Figures so far.
    pub fn stats(&self) -> CallStats {
        CallStats {
            rtt: self.client.rtt().unwrap_or_default(),
            transport: self.client.transport(),
            rung: self.rung(),
            tracks: self.room.track_stats(),
        }
    }

    /// Gives our place in the group fresh keys, so that whoever copied the old ones cannot follow. It happens by itself,
    /// too: see [`Config::renew_keys_within`](crate::Config::renew_keys_within).
    ///
    /// # Errors
    /// [`Error::CallEnded`], [`Error::Refused`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn refresh_keys(&self) -> Result<(), Error> {
        self.commit(|group| group.propose_update().map(Some)).await
    }

    /// Removes a device from the call: it has no keys from now on, and the relay sends it nothing more.
    ///
    /// # Errors
    /// [`Error::EndToEnd`] if only hosts may and we are none; [`Error::State`] if it is not in the call; [`Error::CallEnded`], [`Error::Refused`], [`Error::Disconnected`],
    /// [`Error::TimedOut`].
    pub async fn remove(&self, member: &Member) -> Result<(), Error> {
        let number = self.room.member_number(member).ok_or(Error::State("the member is not in the call"))?;
        let device = member.device;
        self.remove_where(true, move |member| member.device == device).await?;
        self.kick(number).await
    }

    /// Removes a person with all their devices, in one step for the group. They are not let in again by us but by an
    /// invitation.
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub async fn remove_person(&self, identity: &IdentityKey) -> Result<(), Error> {
        if *identity == self.client.identity() {
            return Err(Error::State("we cannot remove ourselves: we can leave"));
        }
        if self.roster().iter().all(|entry| entry.member.identity != *identity) {
            return Err(Error::State("the person is not in the call"));
        }
        let (numbers, identity) = (self.room.numbers_of(identity), *identity);
        self.remove_where(true, move |member| member.identity == identity).await?;
        for number in numbers {
            self.kick(number).await?;
        }
        Ok(())
    }

    /// `put_out` says whether it is for good: only hosts may.
    async fn remove_where(
        &self,
        put_out: bool,
        is_to_go: impl Fn(&supernode_e2ee::Member) -> bool + Send + Sync + 'static,
    ) -> Result<(), Error> {
        self.commit(move |group| {
            let own = group.own_leaf();
            let going = group.members().into_iter().filter(|member| member.leaf != own && is_to_go(member));
            let leaves: Vec<u32> = going.map(|member| member.leaf).collect();
            match (leaves.is_empty(), put_out) {
                (true, _) => Ok(None),
                (false, true) => group.propose_put_out(&leaves).map(Some),
                (false, false) => group.propose_remove(&leaves).map(Some),
            }
        })
        .await
    }

    /// Who may put others out and say who else may: whoever opened the room and whom they named. Empty in a call of those
    /// who were rung, where everybody may; everybody may as well when no host is in the group any more.
    pub fn hosts(&self) -> Vec<IdentityKey> {
        self.room.hosts()
    }

    /// Says who may put others out from now on, in place of those who may now.
    ///
    /// # Errors
    /// [`Error::EndToEnd`] if we are no host, or for nobody, somebody twice or more than [`HOSTS_MAX`](crate::e2ee::HOSTS_MAX);
    /// [`Error::CallEnded`], [`Error::Refused`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn name_hosts(&self, hosts: &[IdentityKey]) -> Result<(), Error> {
        let hosts = hosts.to_vec();
        self.commit(move |group| group.propose_hosts(&hosts).map(Some)).await
    }

    async fn kick(&self, number: u32) -> Result<(), Error> {
        let kick = self.room.kick_request(number);
        let link = self.client.inner.link().await?;
        match self.client.inner.request(&link, kick).await {
            Err(Error::Refused(refusal)) if has_left(&refusal) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Waits until the call is over: we were removed or cannot come back, or everybody else is gone. Somebody who left
    /// without finishing their tracks has [`Config::rejoin_grace`](crate::Config::rejoin_grace) to come back. Cancel
    /// safe.
    pub async fn ended(&self) -> CallEnd {
        let mut changed = self.room.changed.subscribe();
        loop {
            if let Some(end) = self.room.end() {
                return end;
            }
            let over_at = self.room.over_at(self.client.inner.config.rejoin_grace);
            if over_at.is_some_and(|at| clock::moment() >= at) {
                return CallEnd::OthersLeft;
            }
            let given_up = async {
                match over_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = given_up => {}
            }
        }
    }

    /// Leaves, and waits until the relay knows. Finish the publishers first, so that the others know that it was meant.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::TimedOut`]; we have left all the same.
    pub async fn leave(self) -> Result<(), Error> {
        if self.room.end().is_some() {
            return Ok(());
        }
        let goodbye = match &self.room.hosting {
            Some(_) => self.message(rights::goodbye()).await.ok(),
            None => None,
        };
        self.room.end_with(CallEnd::Left);
        lock(&self.client.inner.rooms).remove(&self.room.id);
        let link = self.client.inner.link().await?;
        if let Some(goodbye) = goodbye {
            // Of whoever has left already the relay takes nothing more: the goodbye is to be there first. Without it the
            // others wait for the grace.
            let _ = self.client.inner.request(&link, goodbye).await;
        }
        self.client.inner.request(&link, self.room.leave_request()).await.map(drop)
    }

    /// Waits until this device is in the room.
    pub(crate) async fn wait_for_device(&self, device: &DeviceKey) -> Result<(), Error> {
        let here = || self.members().iter().any(|member| member.device == *device).then_some(());
        timeout(self.client.inner.config.request_timeout, self.wait_until(here))
            .await
            .unwrap_or(Err(Error::TimedOut("the other side's device to join")))
    }

    /// Removes everybody from the group but ourselves and this device.
    pub(crate) async fn keep_only(&self, device: &DeviceKey) -> Result<(), Error> {
        let device = *device;
        self.remove_where(false, move |member| member.device != device).await
    }

    /// Says something to the group.
    pub(crate) async fn say(&self, message: Vec<u8>) -> Result<(), Error> {
        let sealed = self.message(message).await?;
        let mut attempts = Attempts::at_message();
        loop {
            let link = self.client.inner.link().await?;
            let refusal = match self.client.inner.request(&link, sealed.clone()).await {
                Err(Error::Refused(refusal)) => refusal,
                other => return other.map(drop),
            };
            match attempts.handle_refused(&refusal, &random_wait) {
                AfterRefusal::Again { wait, .. } => sleep(wait).await,
                AfterRefusal::GiveUp => return Err(Error::State("the relay takes no more messages from us")),
                AfterRefusal::Final => return Err(Error::Refused(refusal)),
            }
        }
    }

    async fn message(&self, message: Vec<u8>) -> Result<client_message::Body, Error> {
        let room = self.room.clone();
        long(move || room.message(&message)).await
    }

    async fn commit(
        &self,
        make: impl Fn(&mut Group) -> Result<Option<Change>, supernode_e2ee::Error> + Send + Sync + 'static,
    ) -> Result<(), Error> {
        commit::commit(&self.client.inner, &self.room, make).await.map(drop)
    }

    /// Looks again after every change of the room.
    async fn wait_until<T>(&self, look: impl Fn() -> Option<T>) -> Result<T, Error> {
        let mut changed = self.room.changed.subscribe();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if let Some(end) = self.room.end() {
                return Err(Error::CallEnded(end));
            }
            changed.changed().await.map_err(|_| Error::ClientClosed)?;
        }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call(..)")
    }
}

struct LeaveOnDrop {
    inner: Arc<Inner>,
    room: Arc<Room>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        let was_in = lock(&self.inner.rooms).remove(&self.room.id).is_some();
        let goodbye = self.room.hosting.as_ref().and_then(|_| self.room.message(&rights::goodbye()).ok());
        self.room.end_with(CallEnd::Left);
        // Even a call that is over for us has a place in the relay's room until we leave.
        if was_in && let Some(link) = self.inner.link_now() {
            if let Some(goodbye) = goodbye {
                link.send(goodbye, None);
            }
            link.send(self.room.leave_request(), None);
        }
    }
}
