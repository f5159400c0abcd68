//! Keeps a room in order while we are in it, as its state says, and brings us back when the group moved on without us.

use std::{sync::Arc, time::Duration};

use supernode_calls::room::{ComingBack, Duty, Hindrance, Keeping, NextWay, Removal, Way};
use supernode_proto::identity::Delegation;

use crate::{
    Client, Error,
    client::Inner,
    rights::{door, standing},
    room::{Room, commit::commit, entry},
    runtime::{long, sleep, sleep_until, spawn},
    sync::lock,
    wire::{backoff::random_wait, clock, session},
};

/// After a commit of ours did not come about.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps the room until it is over for us. Not part of joining one, since coming back to a room joins another.
pub(crate) fn start(inner: Arc<Inner>, room: Arc<Room>) {
    spawn(keep(inner, room));
}

async fn keep(inner: Arc<Inner>, room: Arc<Room>) {
    let mut changed = room.changed.subscribe();
    let mut closed = inner.closed.subscribe();
    while room.end().is_none() {
        changed.borrow_and_update();
        let next = match duty(&inner, &room) {
            Duty::Wait(wishes, next) => {
                if !wishes.is_empty() {
                    room.grant(inner.link_now().as_deref(), wishes);
                }
                next
            }
            duty => {
                perform(&inner, &room, duty).await;
                continue;
            }
        };
        let due = async {
            match next {
                Some(at) => sleep_until(at).await,
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

fn duty(inner: &Inner, room: &Room) -> Duty {
    let delegation = inner.device.delegation();
    let keeping = Keeping { grace: inner.config.rejoin_grace, delegation: &delegation, device: inner.device.secret() };
    lock(&room.state).duty(keeping, clock::moment(), &random_wait)
}

async fn perform(inner: &Arc<Inner>, room: &Arc<Room>, duty: Duty) {
    match duty {
        Duty::ComeBack => come_back(inner, room).await,
        Duty::FallBehind => room.fall_behind(),
        Duty::Remove(removal) => {
            if let Err(error) = remove(inner, room, removal).await {
                tracing::debug!(%error, "somebody who is gone could not be removed");
                sleep(PAUSE).await;
            }
        }
        Duty::PutOut(numbers) => put_out_of_relay(inner, room, numbers).await,
        Duty::Renew => {
            if let Err(error) = renew(inner, room, inner.device.delegation()).await {
                tracing::debug!(%error, "our keys could not be renewed");
                lock(&room.state).put_renewal_off(clock::moment(), &random_wait);
            }
        }
        Duty::Forget => {
            let forgetting = room.clone();
            long(move || forgetting.forget_past_epochs()).await;
        }
        Duty::Wait(..) => {}
    }
}

async fn remove(inner: &Arc<Inner>, room: &Arc<Room>, removal: Removal) -> Result<(), Error> {
    commit(inner, room, move |group| removal.propose(group)).await.map(drop)
}

/// Fresh keys for our place, unless another member was faster.
async fn renew(inner: &Arc<Inner>, room: &Arc<Room>, delegation: Delegation) -> Result<(), Error> {
    let renewing = room.clone();
    commit(inner, room, move |group| {
        let is_due = !group.shows(&delegation) || lock(&renewing.state).is_renewal_due(clock::moment());
        if is_due { group.propose_renewal(&delegation).map(Some) } else { Ok(None) }
    })
    .await
    .map(drop)
}

/// Puts those out of the relay's room whom the group does not know.
async fn put_out_of_relay(inner: &Inner, room: &Arc<Room>, numbers: Vec<u32>) {
    for number in numbers {
        let Ok(link) = inner.link().await else { return };
        if let Err(error) = inner.request(&link, room.kick_request(number)).await {
            tracing::debug!(%error, "the relay did not put somebody out whom the group does not know");
        }
        room.forget_outsider(number);
    }
}

/// Knocks at the room until somebody lets us in again, and goes in.
async fn come_back(inner: &Arc<Inner>, room: &Arc<Room>) {
    let mut coming = ComingBack::new(&inner.config.patience(inner.config.reconnect_for), clock::moment());
    let mut next = room.next_way(&mut coming, None);
    while room.end().is_none() {
        next = match next {
            NextWay::Try(way) => match try_way(inner, room, way).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "nobody let us in again");
                    room.next_way(&mut coming, Some(hindrance(&error)))
                }
            },
            NextWay::Wait(wait) => {
                sleep(wait).await;
                room.next_way(&mut coming, None)
            }
            NextWay::Over(end) => return room.end_with(end),
        };
    }
}

fn hindrance(error: &Error) -> Hindrance {
    match error {
        Error::Refused(refusal) => Hindrance::of_refusal(refusal),
        Error::NotAdmitted | Error::OtherKeys => Hindrance::NotLetIn,
        Error::ClientClosed => Hindrance::Lasting,
        _ => Hindrance::Passing,
    }
}

async fn try_way(inner: &Arc<Inner>, room: &Arc<Room>, way: Way) -> Result<(), Error> {
    let client = Client::of(inner).ok_or(Error::ClientClosed)?;
    let place = match way {
        Way::Link(secret) => Some(standing::knock(&client, &secret).await?),
        Way::Door(pass) => Some(door::knock(&client, &pass, room.id).await?),
        Way::OldPlace => None,
    };
    let link = inner.link().await?;
    let way_in = if place.is_some() { room.entry_let_in(&link) } else { room.entry_with_old_place(&link) };
    entry::enter(inner, &link, room, way_in, place).await?;
    if room.is_behind() {
        return Err(Error::State("the group moved on while we came in"));
    }
    session::republish(inner, &link, room).await;
    Ok(())
}
