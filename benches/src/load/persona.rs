//! Who the clients are: keys drawn from one secret of the run, so that every worker can sign for anybody.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use prost::Message;
use sha2::{Digest, Sha256};
use supernode_proto::{
    VERSION,
    control::{Hello, HelloBody, JoinRoom},
    identity::{
        self, Delegation, DeviceKey, EXPORTER_BYTES, Grants, Holder, IdentityKey, RelayPin, RoomId, SIGNATURE_BYTES,
        Ticket,
    },
};

/// How long what is signed here holds, in s.
const LIFETIME_S: u64 = 48 * 3600;

/// The run's secret.
#[derive(Clone, Copy)]
pub(super) struct Cast([u8; 32]);

/// Somebody with one device.
pub(super) struct Persona {
    identity: SigningKey,
    device: SigningKey,
}

impl Cast {
    /// A new run: nobody in it has been seen by a relay before.
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    /// A person of this run; a `generation` is the same place in the plan with somebody new in it.
    pub(super) fn persona(&self, number: u32, generation: u32) -> Persona {
        Persona { identity: self.key(b"identity", number, generation), device: self.key(b"device", number, generation) }
    }

    /// A ticket to see and ring a person, made out to another.
    pub(super) fn ticket(&self, number: u32, holder: &Persona) -> Bytes {
        let issuer = self.key(b"identity", number, 0);
        let mut ticket = Ticket {
            issuer: IdentityKey::new(issuer.verifying_key().to_bytes()),
            holder: Holder::Identity(IdentityKey::new(holder.identity.verifying_key().to_bytes())),
            relay: None,
            generation: 0,
            grants: Grants::PRESENCE | Grants::RING,
            not_after_unix_s: not_after_unix_s(),
            id: [0; 8],
            signature: [0; SIGNATURE_BYTES],
        };
        ticket.signature = issuer.sign(&ticket.signing_input()).to_bytes();
        ticket.to_bytes().into()
    }

    /// A room's name.
    pub(super) fn room(&self, room: u32) -> RoomId {
        let digest = self.digest(b"room", room, 0);
        RoomId::passing(digest.first_chunk().copied().expect("a digest has 32 bytes"))
    }

    /// What lets a person into a room on one connection.
    pub(super) fn join(&self, room: u32, persona: &Persona, exporter: &[u8; EXPORTER_BYTES]) -> JoinRoom {
        let (id, secret) = (self.room(room), self.key(b"join", room, 0));
        let input = identity::join_signing_input(&id, exporter, &persona.device_key());
        JoinRoom {
            room: Bytes::copy_from_slice(&id.0),
            join_key: Bytes::copy_from_slice(secret.verifying_key().as_bytes()),
            proof: Bytes::copy_from_slice(&secret.sign(&input).to_bytes()),
            mls_epoch: 0,
            ..JoinRoom::default()
        }
    }

    fn key(&self, what: &[u8], number: u32, generation: u32) -> SigningKey {
        SigningKey::from_bytes(&self.digest(what, number, generation))
    }

    fn digest(&self, what: &[u8], number: u32, generation: u32) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.0);
        digest.update(number.to_be_bytes());
        digest.update(generation.to_be_bytes());
        digest.update(what);
        digest.finalize().into()
    }
}

impl Persona {
    /// The message that opens a session on one connection.
    pub(super) fn hello(&self, relay: &RelayPin, exporter: &[u8; EXPORTER_BYTES], token: &str) -> Hello {
        let body = HelloBody {
            version_min: VERSION,
            version_max: VERSION,
            delegation: self.delegation().to_bytes().into(),
            admission_token: token.to_owned(),
            ..HelloBody::default()
        };
        let body = Bytes::from(body.encode_to_vec());
        let input = identity::hello_signing_input(relay, exporter, &body);
        Hello { body, signature: Bytes::copy_from_slice(&self.device.sign(&input).to_bytes()) }
    }

    fn delegation(&self) -> Delegation {
        let (identity, device) = (IdentityKey::new(self.identity.verifying_key().to_bytes()), self.device_key());
        let not_after_unix_s = not_after_unix_s();
        let input = Delegation::signing_input(&identity, &device, not_after_unix_s);
        Delegation { identity, device, not_after_unix_s, signature: self.identity.sign(&input).to_bytes() }
    }

    fn device_key(&self) -> DeviceKey {
        DeviceKey::new(self.device.verifying_key().to_bytes())
    }
}

fn not_after_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + LIFETIME_S
}
