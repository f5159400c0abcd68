//! Keeps a room in order while we are in it: removes those who are gone, and brings us back when the group moved on
//! without us.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use supernode_e2ee::Pass;
use supernode_proto::identity::DeviceKey;

use crate::{
    Client, Error,
    backoff::{Backoff, random_wait},
    call,
    client::Inner,
    commit::commit,
    door,
    error::CallEnd,
    room::{Removal, Room},
    session,
};

/// After a commit of ours did not come about.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps the room until it is over for us. Not part of joining one, since coming back to a room joins another.
pub(crate) fn start(inner: Arc<Inner>, room: Arc<Room>) {
    tokio::spawn(keep(inner, room));
}

async fn keep(inner: Arc<Inner>, room: Arc<Room>) {
    let mut changed = room.changed.subscribe();
    let mut closed = inner.closed.subscribe();
    while room.end().is_none() {
        changed.borrow_and_update();
        if room.is_behind() {
            match come_back(&inner, &room).await {
                Ok(()) => {}
                Err(Error::NotAdmitted) => room.end_with(CallEnd::NotLetIn),
                Err(error) => {
                    tracing::debug!(%error, "nobody let us in again");
                    room.end_with(CallEnd::MissedKeys);
                }
            }
            continue;
        }
        if room.rejection_deadline().is_some_and(|at| at <= Instant::now()) {
            room.fall_behind();
            continue;
        }
        let next = match room.removal(inner.config.rejoin_grace, Instant::now()) {
            Removal::Due(devices) => {
                if let Err(error) = remove(&inner, &room, devices).await {
                    tracing::debug!(%error, "somebody who is gone could not be removed");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
            Removal::NotBefore(at) => Some(at),
            Removal::Nothing => None,
        };
        let next = next.into_iter().chain(room.rejection_deadline()).min();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = due => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
    }
}

async fn remove(inner: &Inner, room: &Arc<Room>, devices: Vec<DeviceKey>) -> Result<(), Error> {
    commit(inner, room, |group| {
        // Another member may have been faster.
        let gone = group.members().into_iter().filter(|member| devices.contains(&member.device));
        let leaves: Vec<u32> = gone.map(|member| member.leaf).collect();
        if leaves.is_empty() { Ok(None) } else { group.propose_remove(&leaves).map(Some) }
    })
    .await
    .map(drop)
}

/// Rings those who can let us in again until one does, and goes in.
async fn come_back(inner: &Arc<Inner>, room: &Arc<Room>) -> Result<(), Error> {
    let give_up_at = Instant::now() + inner.config.reconnect_for;
    let mut backoff = Backoff::new(inner.config.backoff_base, inner.config.backoff_max);
    let ourselves = inner.device.identity();
    loop {
        let doors = room.hosting.as_ref().map(|hosting| hosting.doors(&ourselves)).unwrap_or_default();
        if doors.is_empty() {
            return Err(Error::State("nobody in the room has given us a ticket"));
        }
        let mut failure = Error::Disconnected;
        for door in doors {
            if let Some(end) = room.end() {
                return Err(Error::CallEnded(end));
            }
            match try_door(inner, room, &door).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        if Instant::now() >= give_up_at || matches!(failure, Error::NotAdmitted | Error::ClientClosed) {
            return Err(failure);
        }
        tokio::time::sleep(backoff.next_wait(random_wait)).await;
    }
}

async fn try_door(inner: &Arc<Inner>, room: &Arc<Room>, door: &Pass) -> Result<(), Error> {
    let client = Client::of(inner).ok_or(Error::ClientClosed)?;
    let (group, admission) =
        door::knock(&client, door, room.id, room.hosting.as_ref().and_then(|hosting| hosting.link.as_ref())).await?;
    let link = inner.link().await?;
    door::take_place(room, &link, group, &admission)?;
    if room.is_entered_on(link.generation) {
        return Ok(());
    }
    call::enter(inner, &link, room).await?;
    if room.is_behind() {
        return Err(Error::State("the group moved on while we came in"));
    }
    session::republish(inner, &link, room).await;
    Ok(())
}
