//! Rooms that stand. Their link is a secret that everybody in them has: from it come the room's name and all that is shown
//! at its door. Whoever comes first opens the room; whoever comes later is let in by any of those inside.

use std::sync::Arc;

use bytes::Bytes;
use supernode_calls::rights::{self, Admission, ForLobby, LobbyError};
use supernode_e2ee::{Group, LinkSecret};
use supernode_proto::{
    control::{AnswerRing, RefusalReason, Ring, RingResult, client_message},
    identity::RoomId,
};

use crate::{
    Call, Client, Error, Member, RoomOptions, error::CallEnd, rights::door, room::Room, sync::lock,
    tracks::frame::unix_s,
};

impl Client {
    /// Goes into the room of a link. Any member lets us in; if nobody is there, we open it, and let in whoever comes after
    /// us. `options` say how others come back by us; the name counts if we open the room.
    ///
    /// # Errors
    /// [`Error::NotAdmitted`] if the members do not let us in, which may be that to all of them we are shut out and the relay
    /// rings none; [`Error::State`] if none of them answers; as [`Client::ring`] for the rest.
    pub async fn enter_by_link(&self, link: &LinkSecret, options: RoomOptions) -> Result<Call, Error> {
        let options = RoomOptions { link: Some(link.clone()), ..options };
        match knock(self, link).await {
            Ok((group, admission)) => self.enter_room(group, admission, options, None).await,
            // If somebody is faster, we have lost our place before we had it, and knock as anybody who has.
            Err(Error::Refused(refusal)) if refusal.reason == RefusalReason::Offline => {
                self.create_room(options).await.map_err(|error| match error {
                    Error::CallEnded(CallEnd::NotLetIn) => Error::NotAdmitted,
                    error => error,
                })
            }
            Err(error) => Err(error),
        }
    }
}

/// Rings those who are in the room, and gets what it takes to come in from the first of them that answers and has the
/// link.
pub(crate) async fn knock(client: &Client, link: &LinkSecret) -> Result<(Group, Admission), Error> {
    let inner = &client.inner;
    let on = inner.link().await?;
    let guest = Member { identity: inner.device.identity(), device: inner.device.key() };
    let packages = [inner.device.key_package()?, inner.device.key_package()?];
    let revocation = lock(&inner.revoked).of(&guest.identity);
    let (payload, proof) = rights::knock(link, &guest, packages, revocation.as_ref());
    let (room_key, room_proof) = on.channel.show_room(&link.room_secret());
    let ring = Ring { ticket: Bytes::new(), payload: payload.into(), proof: room_proof, room_key };
    let mut ring = client.start_ring(&on, ring, None).await?;
    let outcome = ring.settle().await?;
    match outcome.result() {
        RingResult::Answered => {}
        RingResult::Declined => return Err(Error::NotAdmitted),
        _ => return Err(Error::State("nobody is at the door")),
    }
    let (host, welcome) = rights::read_answer(link, &proof, &outcome.payload)
        .ok_or(Error::Protocol("an answer at the door by somebody who does not have the link"))?;
    let lobby = inner.device.join(&welcome, &host, &[], unix_s())?;
    let lobby = Call::join(client.clone(), lobby, None).await?;
    let (group, admission) = door::receive_admission(&lobby, &host).await?;
    if group.room() != link.room() {
        return Err(Error::Protocol("an admission to another room"));
    }
    Ok((group, admission))
}

/// Opens a call of two with whoever is at the door, answers, and waits until they are in it. Of those who ring one does so
/// after the other: `over` says that another one has.
pub(crate) async fn open_lobby(
    client: &Client,
    room: &Arc<Room>,
    ring: Bytes,
    guest: &Member,
    for_lobby: ForLobby,
    over: impl Future<Output = RingResult>,
) -> Result<Call, Error> {
    let inner = &client.inner;
    let link = room.hosting.as_ref().and_then(|hosting| hosting.door.link()).ok_or(Error::State("no such door"))?;
    tokio::select! {
        _ = over => return Err(Error::State("another member is at the door")),
        () = tokio::time::sleep(room.pause_at_door()) => {}
    }
    let name = RoomId::passing(rand::random());
    let opened = rights::Lobby::open(&inner.device, link, guest, for_lobby, name, unix_s());
    let rights::Lobby { group, answer: payload } = opened.map_err(|error| match error {
        LobbyError::EndToEnd(error) => Error::EndToEnd(error),
        LobbyError::OtherDevice => Error::Protocol("a key package of another device than the one that knocks"),
        LobbyError::NobodyAdded => Error::Protocol("nobody was added"),
    })?;
    let lobby = Call::join(client.clone(), group, None).await?;
    let answer = client_message::Body::AnswerRing(AnswerRing { ring, payload: payload.into() });
    let on = inner.link().await?;
    inner.request(&on, answer).await?;
    lobby.wait_for_device(&guest.device).await?;
    Ok(lobby)
}
