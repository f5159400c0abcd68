//! Keeps a room in order while we are in it: removes those who are gone, and brings us back when the group moved on
//! without us.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use supernode_e2ee::{LinkSecret, Pass};
use supernode_proto::{
    control::{KickMember, RefusalReason, client_message},
    identity::{Delegation, DeviceKey},
};

use crate::{
    Client, Error, call,
    client::Inner,
    error::CallEnd,
    rights::{door, standing},
    room::{Due, Room, commit::commit},
    sync::long,
    wire::{
        backoff::{Backoff, random_wait},
        session,
    },
};

/// So often somebody who has not been in the room is told that it is not empty, and that nobody is in it whom the relay may
/// ring for them, until that is no matter of who came and went in between: those inside have shut them out.
const SHUT_OUT_AFTER: u32 = 4;
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
                Err(Error::NotAdmitted | Error::OtherKeys) => room.end_with(CallEnd::NotLetIn),
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
            Due::Now(devices) => {
                if let Err(error) = remove(&inner, &room, devices).await {
                    tracing::debug!(%error, "somebody who is gone could not be removed");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
            Due::NotBefore(at) => Some(at),
            Due::Nothing => None,
        };
        let next_outsider = match room.outsiders_due(inner.config.rejoin_grace, Instant::now()) {
            Due::Now(numbers) => {
                put_out_of_relay(&inner, &room, numbers).await;
                continue;
            }
            Due::NotBefore(at) => Some(at),
            Due::Nothing => None,
        };
        let (delegation, now) = (inner.device.delegation(), Instant::now());
        let next_renewal = room.renewal_due(&delegation, now);
        if next_renewal.is_some_and(|at| at <= now) {
            if let Err(error) = renew(&inner, &room, delegation).await {
                tracing::debug!(%error, "our keys could not be renewed");
                room.put_renewal_off(Instant::now());
            }
            continue;
        }
        let next_to_forget = match room.next_to_forget() {
            Some(at) if at <= now => {
                let forgetting = room.clone();
                long(move || forgetting.forget_past_epochs(now)).await
            }
            next => next,
        };
        let next_split = room.show_splits(Instant::now());
        let (beacon, next_beacon) = room.beacon(inner.device.secret(), Instant::now());
        if let (Some(beacon), Some(link)) = (beacon, inner.link_now()) {
            link.send(beacon, None);
        }
        let next = next
            .into_iter()
            .chain(next_renewal)
            .chain(next_to_forget)
            .chain(next_split)
            .chain(next_beacon)
            .chain(next_outsider)
            .chain(room.rejection_deadline())
            .min();
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

async fn remove(inner: &Arc<Inner>, room: &Arc<Room>, devices: Vec<DeviceKey>) -> Result<(), Error> {
    let (put_out, ourselves) = (room.put_out(), inner.device.identity());
    commit(inner, room, move |group| {
        // Another member may have been faster.
        let gone = group.members().into_iter().filter(|member| devices.contains(&member.device));
        let (out, gone): (Vec<_>, Vec<_>) = gone.partition(|member| put_out.contains(&member.identity));
        let leaves =
            |members: &[supernode_e2ee::Member]| members.iter().map(|member| member.leaf).collect::<Vec<u32>>();
        if !out.is_empty() && group.may_put_out(&ourselves) {
            return group.propose_put_out(&leaves(&out)).map(Some);
        }
        let all = leaves(&[out, gone].concat());
        if all.is_empty() { Ok(None) } else { group.propose_remove(&all).map(Some) }
    })
    .await
    .map(drop)
}

/// Fresh keys for our place, unless another member was faster.
async fn renew(inner: &Arc<Inner>, room: &Arc<Room>, delegation: Delegation) -> Result<(), Error> {
    let renewing = room.clone();
    commit(inner, room, move |group| match renewing.is_renewal_due(group, &delegation, Instant::now()) {
        true => group.propose_renewal(&delegation).map(Some),
        false => Ok(None),
    })
    .await
    .map(drop)
}

/// Puts those out of the relay's room whom the group does not know.
async fn put_out_of_relay(inner: &Inner, room: &Arc<Room>, numbers: Vec<u32>) {
    for number in numbers {
        let Ok(link) = inner.link().await else { return };
        let kick = KickMember { room: Bytes::copy_from_slice(&room.id.0), member: number };
        if let Err(error) = inner.request(&link, client_message::Body::KickMember(kick)).await {
            tracing::debug!(%error, "the relay did not put somebody out whom the group does not know");
        }
        room.forget_outsider(number);
    }
}

/// Knocks at the room until somebody lets us in again, and goes in: by its link if it stands, or by the passes of those in
/// it.
async fn come_back(inner: &Arc<Inner>, room: &Arc<Room>) -> Result<(), Error> {
    let give_up_at = Instant::now() + inner.config.reconnect_for;
    let mut backoff = Backoff::new(inner.config.backoff_base, inner.config.backoff_max);
    let ourselves = inner.device.identity();
    let link = room.hosting.as_ref().and_then(|hosting| hosting.link.as_ref());
    let mut nobody_rung = 0;
    loop {
        let doors = room.hosting.as_ref().map(|hosting| hosting.doors(&ourselves)).unwrap_or_default();
        if doors.is_empty() && link.is_none() {
            return Err(Error::State("nobody in the room has given us a ticket"));
        }
        let mut failure = Error::Disconnected;
        for way in link.map(Way::Link).into_iter().chain(doors.iter().map(Way::Door)) {
            if let Some(end) = room.end() {
                return Err(Error::CallEnded(end));
            }
            match try_way(inner, room, way).await {
                Ok(()) => return Ok(()),
                Err(error) => failure = error,
            }
        }
        let rang_nobody = matches!(&failure, Error::Refused(refusal) if refusal.reason == RefusalReason::Offline);
        nobody_rung = if rang_nobody { nobody_rung + 1 } else { 0 };
        if nobody_rung >= SHUT_OUT_AFTER && room.is_new_to_us() {
            return Err(Error::NotAdmitted);
        }
        if Instant::now() >= give_up_at
            || matches!(failure, Error::NotAdmitted | Error::OtherKeys | Error::ClientClosed)
        {
            return Err(failure);
        }
        tokio::time::sleep(backoff.next_wait(random_wait)).await;
    }
}

/// What a door opens by.
enum Way<'a> {
    Link(&'a LinkSecret),
    Door(&'a Pass),
}

async fn try_way(inner: &Arc<Inner>, room: &Arc<Room>, way: Way<'_>) -> Result<(), Error> {
    let client = Client::of(inner).ok_or(Error::ClientClosed)?;
    let (group, admission) = match way {
        Way::Link(secret) => standing::knock(&client, secret).await?,
        Way::Door(pass) => door::knock(&client, pass, room.id).await?,
    };
    let link = inner.link().await?;
    if room.is_entered_on(link.generation) {
        // Who was in the relay's room all the time is told no labels that were sealed again: it comes in anew.
        inner.request(&link, call::leave(room)).await?;
        room.handle_left_to_come_in_anew();
    }
    let (place, on) = (room.clone(), link.clone());
    long(move || door::take_place(&place, &on, group, &admission)).await?;
    call::enter(inner, &link, room).await?;
    if room.is_behind() {
        return Err(Error::State("the group moved on while we came in"));
    }
    session::republish(inner, &link, room).await;
    Ok(())
}
