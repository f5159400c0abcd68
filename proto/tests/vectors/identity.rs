//! Examples of what identities, devices and rooms sign. The secret keys are constants: Ed25519 is deterministic, so
//! the signatures are too.

use ed25519_dalek::{Signer, SigningKey};
use prost::Message as _;
use supernode_proto::{
    identity::{
        ChannelBinding, Delegation, DeviceKey, EPOCH_DIGEST_BYTES, EXPORTER_BYTES, Grants, Holder, IdentityKey,
        JoinKey, NONCE_BYTES, NonceBinding, Presenter, RelayName, RelayPin, Revocation, RoomId, RoomKey,
        SIGNATURE_BYTES, Ticket, TicketKey, beacon_signing_input, hello_signing_input, join_signing_input,
        present_signing_input, room_signing_input,
    },
    invite::{HostPort, Invite},
};

use super::count;

/// A moment at which everything here holds.
pub const NOW_UNIX_S: u64 = 1_700_000_000;
/// When everything here ends.
pub const NOT_AFTER_UNIX_S: u64 = NOW_UNIX_S + 30 * 24 * 3600;
/// What the TLS exporter of the example connection gives.
pub const EXPORTER: [u8; EXPORTER_BYTES] = [0xe0; EXPORTER_BYTES];

/// What the example relay draws for a connection of a client without an exporter.
pub const NONCE: [u8; NONCE_BYTES] = [0xa0; NONCE_BYTES];

/// The example connection's binding.
pub fn binding() -> ChannelBinding {
    ChannelBinding::TlsExporter { relay: relay_pin(), exporter: EXPORTER }
}

/// The binding of a connection without an exporter, where the client knows the relay by its host.
pub fn binding_by_host() -> ChannelBinding {
    by_nonce(RelayName::Host("relay.example"))
}

/// The same, where it knows the relay by its pin.
pub fn binding_by_pin() -> ChannelBinding {
    by_nonce(RelayName::Pin(&relay_pin()))
}

/// The same, by any name.
pub fn by_nonce(name: RelayName<'_>) -> ChannelBinding {
    ChannelBinding::RelayNonce { relay: relay_pin(), nonce: NonceBinding::new(&NONCE, name) }
}

/// The secret key of the example identity.
pub fn identity_secret() -> SigningKey {
    SigningKey::from_bytes(&[0x01; 32])
}

/// The secret key of the example device.
pub fn device_secret() -> SigningKey {
    SigningKey::from_bytes(&[0x02; 32])
}

/// The secret key of the example room's joiners.
pub fn join_secret() -> SigningKey {
    SigningKey::from_bytes(&[0x03; 32])
}

pub fn identity() -> IdentityKey {
    IdentityKey::new(identity_secret().verifying_key().to_bytes())
}

pub fn device() -> DeviceKey {
    DeviceKey::new(device_secret().verifying_key().to_bytes())
}

pub fn join_key() -> JoinKey {
    JoinKey::new(join_secret().verifying_key().to_bytes())
}

pub fn room() -> RoomId {
    RoomId::from_slice(&count(0x30, 16)).expect("16 bytes")
}

pub fn relay_pin() -> RelayPin {
    RelayPin::of_spki(b"the public key of the example relay")
}

pub fn delegation() -> Delegation {
    let input = Delegation::signing_input(&identity(), &device(), NOT_AFTER_UNIX_S);
    Delegation {
        identity: identity(),
        device: device(),
        not_after_unix_s: NOT_AFTER_UNIX_S,
        signature: identity_secret().sign(&input).to_bytes(),
    }
}

/// The secret key of the example ticket that is made out to nobody.
pub fn ticket_secret() -> SigningKey {
    SigningKey::from_bytes(&[0x05; 32])
}

pub fn ticket_for_holder() -> Ticket {
    let holder = IdentityKey::new(SigningKey::from_bytes(&[0x04; 32]).verifying_key().to_bytes());
    ticket(Holder::Identity(holder), None, Grants::PRESENCE | Grants::RING)
}

pub fn ticket_with_key() -> Ticket {
    let key = TicketKey::new(ticket_secret().verifying_key().to_bytes());
    ticket(Holder::Key(key), Some(relay_pin()), Grants::RING)
}

/// A ticket by the example identity, signed.
pub fn ticket(holder: Holder, relay: Option<RelayPin>, grants: Grants) -> Ticket {
    let mut ticket = Ticket {
        issuer: identity(),
        holder,
        relay,
        grants,
        generation: 2,
        not_after_unix_s: NOT_AFTER_UNIX_S,
        id: *b"ticket-1",
        signature: [0; SIGNATURE_BYTES],
    };
    ticket.signature = identity_secret().sign(&ticket.signing_input()).to_bytes();
    ticket
}

/// Two devices that the example identity has taken back.
pub fn revocation() -> Revocation {
    let devices = vec![DeviceKey::new([0xd1; 32]), DeviceKey::new([0xd2; 32])];
    let mut revocation =
        Revocation { identity: identity(), number: NOW_UNIX_S, devices, signature: [0; SIGNATURE_BYTES] };
    revocation.signature = identity_secret().sign(&revocation.signing_input()).to_bytes();
    revocation
}

/// Who uses the example tickets.
pub fn presenter() -> Presenter {
    Presenter { identity: identity(), device: device() }
}

/// The example device's signature of a Hello on the example connection.
pub fn sign_hello(body: &[u8]) -> [u8; SIGNATURE_BYTES] {
    device_secret().sign(&hello_signing_input(&binding(), body)).to_bytes()
}

/// The example room's proof for the example device on the example connection.
pub fn join_proof() -> [u8; SIGNATURE_BYTES] {
    join_secret().sign(&join_signing_input(&room(), &binding(), &device())).to_bytes()
}

/// The secret key of the example room that stands.
pub fn room_secret() -> SigningKey {
    SigningKey::from_bytes(&[0x06; 32])
}

pub fn room_key() -> RoomKey {
    RoomKey::new(room_secret().verifying_key().to_bytes())
}

/// What shows that the example device has that key, on the example connection.
pub fn room_proof() -> [u8; SIGNATURE_BYTES] {
    room_secret().sign(&room_signing_input(&binding(), &device())).to_bytes()
}

/// Everything that is signed on a connection with this binding, by its name.
pub fn bound(binding: &ChannelBinding) -> [(&'static str, Vec<u8>); 4] {
    [
        ("ticket shown to a relay", present_signing_input(&ticket_with_key(), binding, &device())),
        ("hello", hello_signing_input(binding, &super::control::hello_body().encode_to_vec())),
        ("join", join_signing_input(&room(), binding, &device())),
        ("room key", room_signing_input(binding, &device())),
    ]
}

/// The example device's beacon: the epoch and its digest.
pub const BEACON: (u64, [u8; EPOCH_DIGEST_BYTES]) = (5, [0x73; EPOCH_DIGEST_BYTES]);

/// Its signature.
pub fn sign_beacon() -> [u8; SIGNATURE_BYTES] {
    device_secret().sign(&beacon_signing_input(&room(), BEACON.0, &BEACON.1)).to_bytes()
}

/// Invites of each form, by name.
pub fn invites() -> [(&'static str, Invite); 6] {
    let token = Some("header.claims.signature".to_owned());
    let pin = Some(relay_pin());
    let also = ["relay-2.example:5000", "[2001:db8::7]"].map(|text| text.parse().expect("an address")).into();
    let invite = |host: &str| {
        let address = HostPort { host: host.into(), port: 4433 };
        Invite { pin, ..Invite::to(address) }
    };
    [
        ("pinned", Invite { token, ..invite("relay.example") }),
        ("public certificate", Invite { port: 5000, pin: None, ..invite("192.0.2.7") }),
        ("IPv6", invite("2001:db8::7")),
        ("TCP beside UDP", Invite { tcp: Some(443), ..invite("relay.example") }),
        ("where pages are told", Invite { tcp: Some(443), pages: Some(4480), ..invite("relay.example") }),
        ("several addresses", Invite { also, tcp: Some(443), ..invite("relay.example") }),
    ]
}
