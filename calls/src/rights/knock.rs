//! What a guest and a member show each other at the door of a room that stands: that they have its link.

use prost::Message as _;
use supernode_e2ee::{Answer, Knock, LinkSecret};
use supernode_proto::{
    control,
    identity::{DeviceKey, IdentityKey, Revocation, RoomId},
};

use super::{Revoked, Rules};
use crate::Member;

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
pub struct AtDoor {
    /// Which room.
    pub room: RoomId,
    /// For the room.
    pub package: Vec<u8>,
    /// To answer with.
    pub for_lobby: ForLobby,
}

/// What it takes to meet the guest.
#[derive(Debug)]
pub struct ForLobby {
    /// For the call of two.
    pub package: Vec<u8>,
    /// What the guest showed.
    pub knock: Vec<u8>,
}

/// What a guest rings with, and what it shows in that: two key packages, for the call of two and for the room.
pub fn knock(
    link: &LinkSecret,
    guest: &Member,
    packages: [Vec<u8>; 2],
    revocation: Option<&Revocation>,
) -> (Vec<u8>, Vec<u8>) {
    let [lobby_package, package] = packages;
    let Member { identity, device } = guest;
    let shown = Knock { guest: identity, device, lobby_package: &lobby_package, package: &package };
    let proof = link.prove_knock(&shown).to_vec();
    let revocation = revocation.map(Revocation::to_bytes).unwrap_or_default();
    (KnockPayload { lobby_package, package, proof: proof.clone(), revocation }.encode_to_vec(), proof)
}

/// Who is at the door of a room that we are in, if they have its link and we neither shut them out nor know the device as
/// taken back.
pub fn open_knock(
    link: &LinkSecret,
    ring: &control::IncomingRing,
    rules: &Rules,
    revoked: &mut Revoked,
) -> Option<(Member, AtDoor)> {
    let room = RoomId::from_slice(&ring.room).ok()?;
    let identity = IdentityKey::from_slice(&ring.caller).ok()?;
    let device = DeviceKey::from_slice(&ring.caller_device).ok()?;
    let KnockPayload { lobby_package, package, proof, revocation } = KnockPayload::decode(ring.payload.clone()).ok()?;
    let shown = Knock { guest: &identity, device: &device, lobby_package: &lobby_package, package: &package };
    if !link.is_proven_by(&shown, &proof) || rules.blocked.contains(&identity) {
        return None;
    }
    if let Some(word) = Revocation::from_bytes(&revocation).ok().filter(|word| word.identity == identity) {
        revoked.learn(word);
    }
    if revoked.names(&identity, &device) {
        return None;
    }
    let for_lobby = ForLobby { package: lobby_package, knock: proof };
    Some((Member { identity, device }, AtDoor { room, package, for_lobby }))
}

/// What a member answers: a Welcome to a call of two.
pub fn answer_knock(link: &LinkSecret, knock: &[u8], host: &IdentityKey, welcome: Vec<u8>) -> Vec<u8> {
    let proof = link.prove_answer(&Answer { knock, host, welcome: &welcome }).to_vec();
    AnswerPayload { welcome, host: host.as_bytes().to_vec(), proof }.encode_to_vec()
}

/// Who answers, and their Welcome to a call of two, if they have the link.
pub fn read_answer(link: &LinkSecret, knock: &[u8], payload: &[u8]) -> Option<(IdentityKey, Vec<u8>)> {
    let AnswerPayload { welcome, host, proof } = AnswerPayload::decode(payload).ok()?;
    let host = IdentityKey::from_slice(&host).ok()?;
    link.is_answered_by(&Answer { knock, host: &host, welcome: &welcome }, &proof).then_some((host, welcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    //
    #[test]
    fn an_answer_opens_only_with_the_link_and_for_its_own_knock() {
        let (link, host) = (LinkSecret::generate(), IdentityKey::new([1; 32]));
        let payload = |link: &LinkSecret| answer_knock(link, b"knock", &host, b"welcome".to_vec());
        assert_eq!(read_answer(&link, b"knock", &payload(&link)), Some((host, b"welcome".to_vec())));
        assert_eq!(read_answer(&link, b"another", &payload(&link)), None);
        assert_eq!(read_answer(&link, b"knock", &payload(&LinkSecret::generate())), None);
        assert_eq!(read_answer(&link, b"knock", b"junk"), None);
    }
}
