//! Who the clients are: keys drawn from one secret of the run, so that every worker can sign for anybody.

use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use supernode_keys::{DeviceSecret, IdentitySecret, JoinSecret, Pass};
use supernode_proto::identity::{Delegation, Grants, Holder, RoomId, SIGNATURE_BYTES, Ticket};

/// How long what is signed here holds, in s.
const LIFETIME_S: u64 = 48 * 3600;

/// The run's secret.
#[derive(Clone, Copy)]
pub(super) struct Cast([u8; 32]);

/// Somebody with one device.
pub(super) struct Persona {
    identity: IdentitySecret,
    pub(super) device: DeviceSecret,
}

impl Cast {
    /// A new run: nobody in it has been seen by a relay before.
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    /// A person of this run; a `generation` is the same place in the plan with somebody new in it.
    pub(super) fn persona(&self, number: u32, generation: u32) -> Persona {
        Persona {
            identity: self.identity(number, generation),
            device: DeviceSecret::from_bytes(&self.digest(b"device", number, generation)),
        }
    }

    /// A pass to see and ring a person, which nobody else than this one can use.
    pub(super) fn pass(&self, number: u32, holder: &Persona) -> Pass {
        let issuer = self.identity(number, 0);
        let ticket = issuer.sign_ticket(Ticket {
            issuer: issuer.public(),
            holder: Holder::Identity(holder.identity.public()),
            relay: None,
            generation: 0,
            grants: Grants::PRESENCE | Grants::RING,
            not_after_unix_s: not_after_unix_s(),
            id: [0; 8],
            signature: [0; SIGNATURE_BYTES],
        });
        Pass::new(ticket, None).expect("no key, since it is made out to a person")
    }

    /// A room's name.
    pub(super) fn room(&self, room: u32) -> RoomId {
        let digest = self.digest(b"room", room, 0);
        RoomId::passing(digest.first_chunk().copied().expect("a digest has 32 bytes"))
    }

    /// What lets people into a room.
    pub(super) fn join_secret(&self, room: u32) -> JoinSecret {
        JoinSecret::from_bytes(&self.digest(b"join", room, 0))
    }

    fn identity(&self, number: u32, generation: u32) -> IdentitySecret {
        IdentitySecret::from_bytes(&self.digest(b"identity", number, generation))
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
    pub(super) fn delegation(&self) -> Delegation {
        self.identity.delegate(&self.device.public(), not_after_unix_s())
    }
}

fn not_after_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + LIFETIME_S
}
