//! Rooms that stand. Their link is a secret that everybody in them has: from it come the room's name and all that is shown
//! at its door. Whoever comes first opens the room; whoever comes later is let in by any of those inside.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use supernode_e2ee::{Answer, Group, Knock, LinkSecret};
use supernode_proto::{
    control::{self, AnswerRing, RefusalReason, Ring, RingResult, client_message},
    identity::{DeviceKey, IdentityKey, Revocation, RoomId},
};

use crate::{
    Call, Client, Error, Member, RoomOptions,
    client::Inner,
    error::CallEnd,
    rights::{door, greeting::Admission},
    room::Room,
    sync::lock,
    tracks::frame::unix_s,
};

/// How much longer each member waits than the one before it, before it opens a call with whoever is at the door.
const TURN: Duration = Duration::from_millis(500);

/// What a guest says at the door.
#[derive(Clone, PartialEq, prost::Message)]
struct KnockPayload {
    #[prost(bytes = "vec", tag = "1")]
    lobby_package: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    package: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    proof: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    revocation: Vec<u8>,
}

/// What a member answers.
#[derive(Clone, PartialEq, prost::Message)]
struct AnswerPayload {
    #[prost(bytes = "vec", tag = "1")]
    welcome: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    host: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    proof: Vec<u8>,
}

/// A guest at the door who has the room's link.
#[derive(Debug)]
pub(crate) struct AtDoor {
    pub(crate) room: RoomId,
    /// For the room.
    pub(crate) package: Vec<u8>,
    pub(crate) for_lobby: ForLobby,
}

/// What it takes to meet the guest.
#[derive(Debug)]
pub(crate) struct ForLobby {
    package: Vec<u8>,
    knock: Vec<u8>,
}

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
    let (guest, device) = (inner.device.identity(), inner.device.key());
    let (lobby_package, package) = (inner.device.key_package()?, inner.device.key_package()?);
    let knock = Knock { guest: &guest, device: &device, lobby_package: &lobby_package, package: &package };
    let proof = link.prove_knock(&knock).to_vec();
    let revocation = lock(&inner.revoked).of(&guest).map(|word| word.to_bytes()).unwrap_or_default();
    let payload = KnockPayload { lobby_package, package, proof: proof.clone(), revocation }.encode_to_vec();
    let (room_key, room_proof) = on.channel.show_room(&link.room_secret());
    let ring = Ring { ticket: Bytes::new(), payload: payload.into(), proof: room_proof, room_key };
    let mut ring = client.start_ring(&on, ring, None).await?;
    let outcome = ring.settle().await?;
    match outcome.result() {
        RingResult::Answered => {}
        RingResult::Declined => return Err(Error::NotAdmitted),
        _ => return Err(Error::State("nobody is at the door")),
    }
    let (host, welcome) = read_answer(link, &proof, &outcome.payload)
        .ok_or(Error::Protocol("an answer at the door by somebody who does not have the link"))?;
    let lobby = inner.device.join(&welcome, &host, &[], unix_s())?;
    let lobby = Call::join(client.clone(), lobby, None).await?;
    let (group, admission) = door::receive_admission(&lobby, &host).await?;
    if group.room() != link.room() {
        return Err(Error::Protocol("an admission to another room"));
    }
    Ok((group, admission))
}

/// Who answers, and their Welcome to a call of two, if they have the link.
fn read_answer(link: &LinkSecret, knock: &[u8], payload: &[u8]) -> Option<(IdentityKey, Vec<u8>)> {
    let AnswerPayload { welcome, host, proof } = AnswerPayload::decode(payload).ok()?;
    let host = IdentityKey::from_slice(&host).ok()?;
    link.is_answered_by(&Answer { knock, host: &host, welcome: &welcome }, &proof).then_some((host, welcome))
}

/// Who is at the door of a room that we are in, if they have its link and we neither shut them out nor know the device as
/// taken back.
pub(crate) fn open_knock(inner: &Inner, ring: &control::IncomingRing) -> Option<(Member, AtDoor)> {
    let room = RoomId::from_slice(&ring.room).ok()?;
    let link = inner.room(&ring.room)?.hosting.as_ref()?.link.clone()?;
    let identity = IdentityKey::from_slice(&ring.caller).ok()?;
    let device = DeviceKey::from_slice(&ring.caller_device).ok()?;
    let KnockPayload { lobby_package, package, proof, revocation } = KnockPayload::decode(ring.payload.clone()).ok()?;
    let knock = Knock { guest: &identity, device: &device, lobby_package: &lobby_package, package: &package };
    if !link.is_proven_by(&knock, &proof) || lock(&inner.rules).blocked.contains(&identity) {
        return None;
    }
    let mut revoked = lock(&inner.revoked);
    if let Some(word) = Revocation::from_bytes(&revocation).ok().filter(|word| word.identity == identity) {
        revoked.learn(word);
    }
    if revoked.names(&identity, &device) {
        return None;
    }
    let for_lobby = ForLobby { package: lobby_package, knock: proof };
    Some((Member { identity, device }, AtDoor { room, package, for_lobby }))
}

/// Opens a call of two with whoever is at the door, answers, and waits until they are in it. Of those who ring one does so
/// after the other: `over` says that another one has.
pub(crate) async fn open_lobby(
    client: &Client,
    room: &Arc<Room>,
    ring: Bytes,
    guest: &Member,
    ForLobby { package, knock }: ForLobby,
    over: impl Future<Output = RingResult>,
) -> Result<Call, Error> {
    let inner = &client.inner;
    let link = room.hosting.as_ref().and_then(|hosting| hosting.link.as_ref()).ok_or(Error::State("no such door"))?;
    tokio::select! {
        _ = over => return Err(Error::State("another member is at the door")),
        () = tokio::time::sleep(TURN * room.turn()) => {}
    }
    let offers = [(guest.identity, package)];
    let exchange = inner.device.agree(&offers)?;
    let mut group = inner.device.create_group(RoomId::passing(rand::random()), exchange)?;
    let change = group.propose_add(&offers, unix_s())?;
    // Nobody else is in the group yet who could have made another commit.
    group.merge_own()?;
    if group.members().into_iter().all(|member| Member::from(member) != *guest) {
        return Err(Error::Protocol("a key package of another device than the one that knocks"));
    }
    let welcome = change.welcome.ok_or(Error::Protocol("nobody was added"))?;
    let host = inner.device.identity();
    let proof = link.prove_answer(&Answer { knock: &knock, host: &host, welcome: &welcome }).to_vec();
    let lobby = Call::join(client.clone(), group, None).await?;
    let payload = AnswerPayload { welcome, host: host.as_bytes().to_vec(), proof }.encode_to_vec();
    let answer = client_message::Body::AnswerRing(AnswerRing { ring, payload: payload.into() });
    let on = inner.link().await?;
    inner.request(&on, answer).await?;
    lobby.wait_for_device(&guest.device).await?;
    Ok(lobby)
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn an_answer_opens_only_with_the_link_and_for_its_own_knock() {
        let (link, host) = (LinkSecret::generate(), IdentityKey::new([1; 32]));
        let answer = Answer { knock: b"knock", host: &host, welcome: b"welcome" };
        let payload = |link: &LinkSecret| {
            let proof = link.prove_answer(&answer).to_vec();
            AnswerPayload { welcome: b"welcome".to_vec(), host: host.as_bytes().to_vec(), proof }.encode_to_vec()
        };
        assert_eq!(read_answer(&link, b"knock", &payload(&link)), Some((host, b"welcome".to_vec())));
        assert_eq!(read_answer(&link, b"another", &payload(&link)), None);
        assert_eq!(read_answer(&link, b"knock", &payload(&LinkSecret::generate())), None);
        assert_eq!(read_answer(&link, b"knock", b"junk"), None);
    }
}
