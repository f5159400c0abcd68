//! What a client signs on one connection. It is of use on no other.

use bytes::Bytes;
use prost::Message as _;
use supernode_keys::{DeviceSecret, JoinSecret, Pass, RoomSecret, TicketSecret};
use supernode_proto::{
    VERSION,
    control::{Challenge, Hello, HelloBody, JoinRoom},
    identity::{
        ChannelBinding, Delegation, DeviceKey, EXPORTER_BYTES, NonceBinding, RelayName, RelayPin, Revocation, RoomId,
        Ticket,
    },
};

/// A connection of one device to one relay.
#[derive(Clone, Copy)]
pub struct Channel {
    /// What binds signatures to it.
    pub binding: ChannelBinding,
    /// The device at this end.
    pub device: DeviceKey,
}

/// Why there is nothing to sign for a relay's challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// Its fields have other sizes.
    #[error("what the relay wants to have signed is malformed")]
    Malformed,
    /// It is of a relay with another pin.
    #[error("the relay names itself by another pin than the one by which it is known")]
    AnotherRelay,
}

/// As whom a device comes in.
#[derive(Clone, Copy)]
pub struct Introduction<'a> {
    /// Its identity's certificate for it.
    pub delegation: &'a Delegation,
    /// What lets it in, where the relay asks for something; otherwise empty.
    pub token: &'a str,
    /// Tickets of the identity of a lower one are void.
    pub ticket_generation: u32,
    /// Devices of the identity that count no more.
    pub revocation: Option<&'a Revocation>,
}

impl<'a> Introduction<'a> {
    /// Of somebody who has taken nothing back.
    pub fn new(delegation: &'a Delegation, token: &'a str) -> Self {
        Self { delegation, token, ticket_generation: 0, revocation: None }
    }

    /// What the Hello says.
    pub fn to_body(&self) -> HelloBody {
        HelloBody {
            version_min: VERSION,
            version_max: VERSION,
            delegation: self.delegation.to_bytes().into(),
            admission_token: self.token.to_owned(),
            ticket_generation: self.ticket_generation,
            revocation: self.revocation.map(|word| word.to_bytes().into()).unwrap_or_default(),
        }
    }
}

impl Channel {
    /// The channel of a connection whose TLS exports this, to the relay that showed a certificate with this pin.
    pub const fn by_exporter(relay: RelayPin, exporter: [u8; EXPORTER_BYTES], device: DeviceKey) -> Self {
        Self { binding: ChannelBinding::TlsExporter { relay, exporter }, device }
    }

    /// The channel of a page's connection to a relay that it knows by this name, and that wants this signed for.
    ///
    /// # Errors
    /// See [`ChallengeError`].
    pub fn by_challenge(
        challenge: &Challenge,
        known: RelayName<'_>,
        device: DeviceKey,
    ) -> Result<Self, ChallengeError> {
        let nonce = challenge.nonce[..].try_into().map_err(|_| ChallengeError::Malformed)?;
        let relay = RelayPin(challenge.relay[..].try_into().map_err(|_| ChallengeError::Malformed)?);
        if let RelayName::Pin(pin) = known
            && *pin != relay
        {
            return Err(ChallengeError::AnotherRelay);
        }
        let nonce = NonceBinding::new(&nonce, known);
        Ok(Self { binding: ChannelBinding::RelayNonce { relay, nonce }, device })
    }

    /// The relay, by its pin.
    pub const fn relay(&self) -> &RelayPin {
        self.binding.relay()
    }

    /// The first message of the session.
    pub fn hello(&self, device: &DeviceSecret, introduction: &Introduction<'_>) -> Hello {
        self.sign_hello(device, &introduction.to_body())
    }

    /// A Hello that says this.
    pub fn sign_hello(&self, device: &DeviceSecret, body: &HelloBody) -> Hello {
        let body = body.encode_to_vec();
        let signature = device.sign_hello(&self.binding, &body);
        Hello { body: body.into(), signature: Bytes::copy_from_slice(&signature) }
    }

    /// The request to enter a room, or to open it if nobody is there, with its join secret of this epoch.
    pub fn join(&self, room: &RoomId, secret: &JoinSecret, mls_epoch: u64) -> JoinRoom {
        JoinRoom {
            room: Bytes::copy_from_slice(&room.0),
            join_key: Bytes::copy_from_slice(secret.public().as_bytes()),
            proof: Bytes::copy_from_slice(&secret.sign(room, &self.binding, &self.device)),
            mls_epoch,
            ..JoinRoom::default()
        }
    }

    /// The key of a room that stands, and what shows that we have its other half.
    pub fn show_room(&self, secret: &RoomSecret) -> (Bytes, Bytes) {
        let proof = secret.sign(&self.binding, &self.device);
        (Bytes::copy_from_slice(secret.public().as_bytes()), Bytes::copy_from_slice(&proof))
    }

    /// A pass's ticket, and what shows that it is ours.
    pub fn show(&self, pass: &Pass) -> (Bytes, Bytes) {
        let proof = pass.show_to_relay(&self.binding, &self.device);
        (pass.ticket().to_bytes().into(), proof.into())
    }

    /// What shows that a ticket is ours, by its key.
    pub fn show_ticket(&self, ticket: &Ticket, key: &TicketSecret) -> Bytes {
        Bytes::copy_from_slice(&key.sign_presented(ticket, &self.binding, &self.device))
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel(..)")
    }
}

#[cfg(test)]
mod tests {
    use supernode_keys::IdentitySecret;
    use supernode_proto::identity::{JoinKey, RoomKey, verify_hello, verify_join, verify_room};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn channel(device: &DeviceSecret) -> Channel {
        Channel::by_exporter(RelayPin([1; 32]), [2; 32], device.public())
    }

    #[test]
    fn a_hello_verifies_on_its_own_connection_only() {
        let (identity, device) = (IdentitySecret::from_bytes(&[3; 32]), DeviceSecret::from_bytes(&[4; 32]));
        let (delegation, here) = (identity.delegate(&device.public(), NOW), channel(&device));
        let hello = here.hello(&device, &Introduction::new(&delegation, "a token"));
        let verify = |at: &Channel| verify_hello(&at.device, &at.binding, &hello.body, &hello.signature);
        verify(&here).expect("signed for this connection");
        verify(&Channel::by_exporter(RelayPin([1; 32]), [9; 32], here.device)).expect_err("another connection");
        verify(&Channel::by_exporter(RelayPin([9; 32]), [2; 32], here.device)).expect_err("another relay");
        let body = HelloBody::decode(&*hello.body).expect("a body");
        assert_eq!(body.admission_token, "a token");
        assert_eq!(Delegation::from_bytes(&body.delegation), Ok(delegation));
    }

    //
    #[test]
    fn what_a_page_signs_is_for_the_relay_that_it_knows_whoever_passes_the_nonce_on() {
        let device = DeviceSecret::from_bytes(&[4; 32]);
        let (pin, other) = (RelayPin([1; 32]), RelayPin([2; 32]));
        let challenge = |nonce: &[u8], relay: &RelayPin| Challenge {
            nonce: Bytes::copy_from_slice(nonce),
            relay: Bytes::copy_from_slice(&relay.0),
        };
        let by = |challenge: &Challenge, known| Channel::by_challenge(challenge, known, device.public());
        let here = by(&challenge(&[3; 32], &pin), RelayName::Pin(&pin)).expect("its own");
        let refused = by(&challenge(&[3; 32], &other), RelayName::Pin(&pin));
        assert_eq!(refused.map(|_| ()), Err(ChallengeError::AnotherRelay));
        let malformed = by(&challenge(&[3; 31], &pin), RelayName::Pin(&pin));
        assert_eq!(malformed.map(|_| ()), Err(ChallengeError::Malformed));
        // By a host no pin is known: another relay's nonce, and its pin, are signed for the host that was dialled.
        let elsewhere = by(&challenge(&[3; 32], &pin), RelayName::Host("evil.example")).expect("a host");
        assert_ne!(here.binding, elsewhere.binding);
        let meant = by(&challenge(&[3; 32], &pin), RelayName::Host("relay.example")).expect("a host");
        let identity = IdentitySecret::from_bytes(&[3; 32]);
        let delegation = identity.delegate(&device.public(), NOW);
        let hello = elsewhere.hello(&device, &Introduction::new(&delegation, ""));
        verify_hello(&device.public(), &meant.binding, &hello.body, &hello.signature).expect_err("for another relay");
    }

    #[test]
    fn proofs_for_rooms_verify_for_their_room_and_device_only() {
        let device = DeviceSecret::from_bytes(&[4; 32]);
        let (here, room) = (channel(&device), RoomId([5; 16]));
        let join = here.join(&room, &JoinSecret::from_bytes(&[6; 32]), 7);
        let key = JoinKey::from_slice(&join.join_key).expect("a key");
        verify_join(&key, &room, &here.binding, &here.device, &join.proof).expect("it lets this device in");
        verify_join(&key, &RoomId([9; 16]), &here.binding, &here.device, &join.proof).expect_err("another room");
        assert_eq!((join.mls_epoch, join.room_key.is_empty()), (7, true));

        let (key, proof) = here.show_room(&RoomSecret::from_bytes(&[8; 32]));
        let key = RoomKey::from_slice(&key).expect("a key");
        verify_room(&key, &here.binding, &here.device, &proof).expect("it opens the room");
        verify_room(&key, &here.binding, &DeviceKey::new([9; 32]), &proof).expect_err("another device");
    }
}
