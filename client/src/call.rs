//! A call: who is in it, its tracks, its figures, its end.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use supernode_e2ee::Group;
use supernode_proto::{
    control::{
        KickMember, LeaveRoom, RefusalReason, RotateJoinKey, Rung, SendMls, TrackKind, client_message, relay_message,
    },
    identity::DeviceKey,
};
use tokio::sync::broadcast;

use crate::{
    CallEvent, Client, Error, RemoteTrack,
    client::Inner,
    error::{CallEnd, Refusal},
    link::Link,
    room::{Member, Room},
    stats::CallStats,
    sync::lock,
};

/// How often a commit is made again after another member's came first.
const COMMIT_ATTEMPTS: u32 = 8;

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
    pub(crate) async fn join(client: Client, group: Group) -> Result<Self, Error> {
        let room = Room::new(group)?;
        let link = client.inner.link().await?;
        lock(&client.inner.rooms).insert(room.id, room.clone());
        // From here on the drop of the call cleans up.
        let guard = Arc::new(LeaveOnDrop { inner: client.inner.clone(), room: room.clone() });
        let call = Self { client, room, _guard: guard };
        enter(&call.client.inner, &link, &call.room).await?;
        Ok(call)
    }

    /// Everybody else who is connected to the room now.
    pub fn members(&self) -> Vec<Member> {
        self.room.members()
    }

    /// 60 digits in groups of five that are the same for everybody in the call, unless somebody sits in between. They
    /// change whenever the keys do.
    ///
    /// # Errors
    /// [`Error::EndToEnd`] once we were removed.
    pub fn safety_number(&self) -> Result<String, Error> {
        self.room.safety_number()
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
        CallStats { rtt: self.client.rtt().unwrap_or_default(), rung: self.rung(), tracks: self.room.track_stats() }
    }

    /// Gives our place in the group fresh keys, so that whoever copied the old ones cannot follow.
    ///
    /// # Errors
    /// [`Error::CallEnded`], [`Error::Refused`], [`Error::Disconnected`], [`Error::TimedOut`].
    pub async fn refresh_keys(&self) -> Result<(), Error> {
        self.commit(|group| group.propose_update().map(Some)).await
    }

    /// Removes a device from the call: it has no keys from now on, and the relay sends it nothing more.
    ///
    /// # Errors
    /// [`Error::State`] if it is not in the call; [`Error::CallEnded`], [`Error::Refused`], [`Error::Disconnected`],
    /// [`Error::TimedOut`].
    pub async fn remove(&self, member: &Member) -> Result<(), Error> {
        let number = self.room.member_number(member).ok_or(Error::State("the member is not in the call"))?;
        let device = member.device;
        self.commit(move |group| {
            let leaf = group.members().into_iter().find(|member| member.device == device).map(|member| member.leaf);
            leaf.map(|leaf| group.propose_remove(&[leaf])).transpose()
        })
        .await?;
        let kick = client_message::Body::KickMember(KickMember { room: self.room_bytes(), member: number });
        let link = self.client.inner.link().await?;
        match self.client.inner.request(&link, kick).await {
            // It left by itself when it saw that it has no keys.
            Err(Error::Refused(refusal)) if refusal.reason == RefusalReason::UnknownMember => Ok(()),
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
            let give_up_at = match self.room.alone() {
                Some(alone) if alone.said_goodbye => return CallEnd::OthersLeft,
                Some(alone) => Some(alone.since + self.client.inner.config.rejoin_grace),
                None => None,
            };
            if give_up_at.is_some_and(|at| Instant::now() >= at) {
                return CallEnd::OthersLeft;
            }
            let given_up = async {
                match give_up_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
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
        self.room.end_with(CallEnd::Left);
        lock(&self.client.inner.rooms).remove(&self.room.id);
        let link = self.client.inner.link().await?;
        self.client.inner.request(&link, leave(&self.room)).await.map(drop)
    }

    /// Waits until this device is in the room.
    pub(crate) async fn wait_for_device(&self, device: &DeviceKey) -> Result<(), Error> {
        let here = || self.members().iter().any(|member| member.device == *device).then_some(());
        let timeout = self.client.inner.config.request_timeout;
        tokio::time::timeout(timeout, self.wait_until(here))
            .await
            .unwrap_or(Err(Error::TimedOut("the other side's device to join")))
    }

    /// Removes everybody from the group but ourselves and this device.
    pub(crate) async fn keep_only(&self, device: &DeviceKey) -> Result<(), Error> {
        let device = *device;
        self.commit(move |group| {
            let own = group.own_leaf();
            let others = group.members().into_iter().filter(|member| member.leaf != own && member.device != device);
            let leaves: Vec<u32> = others.map(|member| member.leaf).collect();
            if leaves.is_empty() { Ok(None) } else { group.propose_remove(&leaves).map(Some) }
        })
        .await
    }

    /// Changes the group through the room's mailbox, and lets newcomers in by the new epoch's secret only. `make` is
    /// called again after another member's commit has come first.
    async fn commit(
        &self,
        make: impl Fn(&mut Group) -> Result<Option<supernode_e2ee::Change>, supernode_e2ee::Error>,
    ) -> Result<(), Error> {
        for _ in 0..COMMIT_ATTEMPTS {
            if let Some(end) = self.room.end() {
                return Err(Error::CallEnded(end));
            }
            let link = self.client.inner.link().await?;
            let Some(change) = self.room.make_commit(&make)? else { return Ok(()) };
            let message = client_message::Body::SendMls(SendMls {
                room: self.room_bytes(),
                epoch: change.epoch,
                commit: true,
                payload: change.commit.into(),
            });
            let room = self.room.clone();
            let settle = move |reply: Result<&relay_message::Body, &Refusal>| room.handle_own_commit(reply.is_ok());
            let timeout = self.client.inner.config.request_timeout;
            match link.request_in_order(message, timeout, Some(Box::new(settle))).await {
                Ok(_) => return self.rotate_join_key(&link).await,
                Err(Error::Refused(refusal)) if refusal.reason == RefusalReason::EpochConflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::State("others changed the keys again and again"))
    }

    async fn rotate_join_key(&self, link: &Link) -> Result<(), Error> {
        let join_key = self.room.join_key()?.into();
        let rotate = client_message::Body::RotateJoinKey(RotateJoinKey { room: self.room_bytes(), join_key });
        self.client.inner.request(link, rotate).await.map(drop)
    }

    pub(crate) fn room_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(&self.room.id.0)
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

/// Joins a room on this connection, for the first time or again.
pub(crate) async fn enter(inner: &Inner, link: &Arc<Link>, room: &Arc<Room>) -> Result<(), Error> {
    let request = room.join_request(&link.exporter, &inner.device.key())?;
    let joining = room.clone();
    let joined = move |reply: Result<&relay_message::Body, &Refusal>| {
        if let Ok(relay_message::Body::RoomJoined(joined)) = reply {
            joining.handle_joined(joined);
        }
    };
    link.request_in_order(request, inner.config.request_timeout, Some(Box::new(joined))).await.map(drop)
}

fn leave(room: &Room) -> client_message::Body {
    client_message::Body::LeaveRoom(LeaveRoom { room: Bytes::copy_from_slice(&room.id.0) })
}

struct LeaveOnDrop {
    inner: Arc<Inner>,
    room: Arc<Room>,
}

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        let was_in = lock(&self.inner.rooms).remove(&self.room.id).is_some();
        self.room.end_with(CallEnd::Left);
        // Even a call that is over for us has a place in the relay's room until we leave.
        if was_in && let Some(link) = self.inner.link_now() {
            link.send(leave(&self.room), None);
        }
    }
}
