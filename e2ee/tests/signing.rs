//! Delegations, tickets, Hellos and join proofs, as the relay verifies them.
#![allow(missing_docs, reason = "tests")]

use supernode_e2ee::{Device, DeviceSecret, Error, IdentitySecret, JoinSecret, LinkSecret, Terms, TicketSecret};
use supernode_proto::identity::{
    ChannelBinding, Delegation, Grants, Holder, IdentityError, RelayPin, RoomId, Ticket, verify_hello, verify_join,
    verify_room,
};
use supernode_proto::limits;

const NOW: u64 = 1_800_000_000;
const TERMS: Terms =
    Terms { grants: Grants::RING, relay: Some(RelayPin([8; 32])), generation: 7, not_after_unix_s: NOW };

/// Every way to change one byte of `bytes`, one at a time.
fn with_one_byte_changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len()).map(|at| {
        let mut changed = bytes.to_vec();
        changed[at] ^= 1;
        changed
    })
}

#[test]
fn a_delegation_holds_until_its_last_second() {
    let device = DeviceSecret::generate().public();
    let delegation = IdentitySecret::generate().delegate(&device, NOW);
    assert_eq!(delegation.verify(NOW), Ok(()));
    assert_eq!(delegation.verify(NOW + 1), Err(IdentityError::Expired { field: "delegation" }));
    let long_before = NOW - limits::DELEGATION_LIFETIME_S_MAX - 1;
    assert!(matches!(delegation.verify(long_before), Err(IdentityError::TooLong { .. })));
}

#[test]
fn no_byte_of_a_delegation_can_change() {
    let device = DeviceSecret::generate().public();
    let bytes = IdentitySecret::generate().delegate(&device, NOW + 60).to_bytes();
    Delegation::from_bytes(&bytes).and_then(|delegation| delegation.verify(NOW)).expect("unchanged, it holds");
    for changed in with_one_byte_changed(&bytes) {
        Delegation::from_bytes(&changed).and_then(|delegation| delegation.verify(NOW)).expect_err("it was changed");
    }
}

#[test]
fn a_ticket_holds_until_its_last_second_for_a_person_or_a_key() {
    let issuer = IdentitySecret::generate();
    let holder = IdentitySecret::generate().public();
    for holder in [Holder::Identity(holder), Holder::Key(TicketSecret::generate().public())] {
        let ticket = issuer.issue_ticket(holder, &TERMS);
        assert_eq!((ticket.issuer, ticket.holder), (issuer.public(), holder));
        assert_eq!(ticket.verify(NOW), Ok(()));
        assert_eq!(ticket.verify(NOW + 1), Err(IdentityError::Expired { field: "ticket" }));
    }
}

#[test]
fn no_byte_of_a_ticket_can_change() {
    let bytes = IdentitySecret::generate().issue_pass(&TERMS).ticket().to_bytes();
    Ticket::from_bytes(&bytes).and_then(|ticket| ticket.verify(NOW)).expect("unchanged, it holds");
    for changed in with_one_byte_changed(&bytes) {
        Ticket::from_bytes(&changed).and_then(|ticket| ticket.verify(NOW)).expect_err("it was changed");
    }
}

#[test]
fn two_tickets_for_the_same_thing_differ() {
    let issuer = IdentitySecret::generate();
    let [one, other] = [(), ()].map(|()| issuer.issue_pass(&TERMS));
    assert_ne!(one.ticket().id, other.ticket().id);
    assert_ne!(one.ticket().holder, other.ticket().holder);
}

fn binding(relay: u8, exporter: u8) -> ChannelBinding {
    ChannelBinding::TlsExporter { relay: RelayPin([relay; 32]), exporter: [exporter; 32] }
}

#[test]
fn a_hello_is_for_one_device_relay_connection_and_body() {
    let device = DeviceSecret::generate();
    let (binding, body) = (binding(1, 2), b"hello body");
    let signature = device.sign_hello(&binding, body);
    assert_eq!(verify_hello(&device.public(), &binding, body, &signature), Ok(()));
    let refused = [
        verify_hello(&DeviceSecret::generate().public(), &binding, body, &signature),
        verify_hello(&device.public(), &self::binding(3, 2), body, &signature),
        verify_hello(&device.public(), &self::binding(1, 3), body, &signature),
        verify_hello(&device.public(), &binding, b"hello bodY", &signature),
    ];
    assert!(refused.iter().all(|verified| *verified == Err(IdentityError::Signature { field: "hello" })));
}

#[test]
fn a_join_proof_is_for_one_room_connection_and_device() {
    let secret = JoinSecret::from_bytes(&[5; 32]);
    let device = DeviceSecret::generate().public();
    let (room, binding) = (RoomId([1; 16]), binding(1, 2));
    let proof = secret.sign(&room, &binding, &device);
    assert_eq!(verify_join(&secret.public(), &room, &binding, &device, &proof), Ok(()));
    let other_key = JoinSecret::from_bytes(&[6; 32]).public();
    let refused = [
        verify_join(&other_key, &room, &binding, &device, &proof),
        verify_join(&secret.public(), &RoomId([3; 16]), &binding, &device, &proof),
        verify_join(&secret.public(), &room, &self::binding(1, 3), &device, &proof),
        verify_join(&secret.public(), &room, &binding, &DeviceSecret::generate().public(), &proof),
    ];
    assert!(refused.iter().all(|verified| *verified == Err(IdentityError::Signature { field: "join proof" })));
}

#[test]
fn a_secret_kept_as_bytes_is_the_same_secret() {
    let identity = IdentitySecret::generate();
    assert_eq!(IdentitySecret::from_bytes(&identity.to_bytes()).public(), identity.public());
    let device = DeviceSecret::generate();
    assert_eq!(DeviceSecret::from_bytes(&device.to_bytes()).public(), device.public());
}

#[test]
fn secrets_show_nothing_of_themselves() {
    assert_eq!(format!("{:?}", IdentitySecret::generate()), "IdentitySecret(..)");
    assert_eq!(format!("{:?}", DeviceSecret::generate()), "DeviceSecret(..)");
    assert_eq!(format!("{:?}", JoinSecret::from_bytes(&[5; 32])), "JoinSecret(..)");
}

#[test]
fn a_device_does_not_take_another_devices_delegation() {
    let delegation = IdentitySecret::generate().delegate(&DeviceSecret::generate().public(), NOW);
    assert!(matches!(Device::new(DeviceSecret::generate(), delegation), Err(Error::DelegationDevice)));
}

//
#[test]
fn what_shows_a_room_s_key_is_for_one_device_relay_and_connection_and_its_room_for_one_key() {
    let (link, device) = (LinkSecret::generate(), DeviceSecret::generate().public());
    let (secret, binding) = (link.room_secret(), binding(1, 2));
    let (key, proof) = (secret.public(), secret.sign(&binding, &device));
    assert_eq!(verify_room(&key, &binding, &device, &proof), Ok(()));
    assert_eq!(RoomId::standing(&key), link.room());
    let other = LinkSecret::generate().room_secret().public();
    let refused = [
        verify_room(&other, &binding, &device, &proof),
        verify_room(&key, &self::binding(3, 2), &device, &proof),
        verify_room(&key, &self::binding(1, 4), &device, &proof),
        verify_room(&key, &binding, &DeviceSecret::generate().public(), &proof),
        verify_room(&key, &binding, &device, &proof[..63]),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert!(!RoomId::passing(link.room().0).stands(), "a random name is never taken for one of a key");
}
