//! What is signed on a connection counts on that connection only, whatever kind of binding it has.

use supernode_keys::JoinSecret;
use supernode_proto::{
    close::CloseCode,
    control::{RefusalReason, client_message::Body as Request, relay_message::Body},
    identity::{ChannelBinding, NonceBinding, RelayName, RelayPin, RoomId},
};
use supernode_session::Channel;

use crate::world::{Person, World};

const RELAY: RelayPin = RelayPin([9; 32]);
const NONCE: [u8; 32] = [6; 32];
const ROOM: RoomId = RoomId([7; 16]);

fn by_nonce(nonce: &[u8; 32], name: RelayName<'_>) -> ChannelBinding {
    ChannelBinding::RelayNonce { relay: RELAY, nonce: NonceBinding::new(nonce, name) }
}

/// Bindings that a client may sign for where the relay expects the first: another kind, another nonce, another name.
fn others(expected: ChannelBinding) -> Vec<ChannelBinding> {
    let ChannelBinding::RelayNonce { nonce, .. } = expected else { panic!("by nonce") };
    vec![
        ChannelBinding::TlsExporter { relay: RELAY, exporter: *nonce.as_bytes() },
        ChannelBinding::TlsExporter { relay: RELAY, exporter: NONCE },
        by_nonce(&[5; 32], RelayName::Host("relay.example")),
        by_nonce(&NONCE, RelayName::Host("other.example")),
        by_nonce(&NONCE, RelayName::Pin(&RELAY)),
    ]
}

//
#[test]
fn a_session_that_is_bound_by_a_nonce_takes_what_is_signed_for_that_nonce_and_that_relay_only() {
    let (mut world, person) = (World::new(1, 1), Person::new(1));
    let expected = by_nonce(&NONCE, RelayName::Host("relay.example"));
    let channel = |binding| Channel { binding, device: person.device_key() };
    for other in others(expected) {
        assert_eq!(world.connect_bound(&person, 0, &channel(other), expected), Err(CloseCode::BAD_SIGNATURE));
    }
    let at = world.connect_bound(&person, 0, &channel(expected), expected).expect("signed for what the relay expects");

    let secret = JoinSecret::from_bytes(&[7; 32]);
    for other in others(expected) {
        let answer = world.answer(at, Request::JoinRoom(channel(other).join(&ROOM, &secret, 1)));
        let refused = matches!(&answer, Body::Refused(refused) if refused.reason() == RefusalReason::JoinProof);
        assert!(refused, "{answer:?}");
    }
    let answer = world.answer(at, Request::JoinRoom(channel(expected).join(&ROOM, &secret, 1)));
    assert!(matches!(answer, Body::RoomJoined(_)), "{answer:?}");
}

//
#[test]
fn a_session_that_is_bound_by_its_exporter_takes_nothing_that_is_signed_for_a_nonce() {
    let (mut world, person) = (World::new(1, 2), Person::new(1));
    let here = person.channel();
    let ChannelBinding::TlsExporter { exporter, .. } = here.binding else { panic!("by exporter") };
    for name in [RelayName::Pin(&RELAY), RelayName::Host("relay.example")] {
        let channel = Channel { binding: by_nonce(&exporter, name), ..here };
        assert_eq!(world.connect_bound(&person, 0, &channel, here.binding), Err(CloseCode::BAD_SIGNATURE));
    }
    world.connect_bound(&person, 0, &here, here.binding).expect("as ever");
}
