//! People who know nothing but the wire, and rooms without a group behind them.

use std::sync::Arc;

use bytes::Bytes;
use supernode_keys::{DeviceSecret, IdentitySecret, JoinSecret, RoomSecret, TicketSecret};
use supernode_proto::{
    identity::{Delegation, DeviceKey, Grants, Holder, IdentityKey, RoomId, RoomKey, SIGNATURE_BYTES, Ticket},
    mls::Envelope,
};

use crate::{Client, unix_s};

/// Somebody with one device.
#[derive(Clone)]
pub struct Person {
    pub identity: Arc<IdentitySecret>,
    pub device: Arc<DeviceSecret>,
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

impl Person {
    pub fn new() -> Self {
        Self {
            identity: IdentitySecret::from_bytes(&rand::random()).into(),
            device: DeviceSecret::from_bytes(&rand::random()).into(),
        }
    }

    /// The same person with another device.
    pub fn another_device(&self) -> Self {
        Self { identity: self.identity.clone(), ..Self::new() }
    }

    pub fn identity_key(&self) -> IdentityKey {
        self.identity.public()
    }

    pub fn device_key(&self) -> DeviceKey {
        self.device.public()
    }

    pub fn delegation(&self, not_after_unix_s: u64) -> Delegation {
        self.identity.delegate(&self.device_key(), not_after_unix_s)
    }

    /// For one person, or for whoever has [`open_key`]: clients show such a ticket by themselves.
    pub fn ticket(&self, holder: Option<&Self>, grants: Grants, not_after_unix_s: u64) -> Ticket {
        self.identity.sign_ticket(Ticket {
            issuer: self.identity_key(),
            holder: match holder {
                Some(holder) => Holder::Identity(holder.identity_key()),
                None => Holder::Key(open_key().public()),
            },
            relay: None,
            grants,
            generation: 0,
            not_after_unix_s,
            id: rand::random(),
            signature: [0; SIGNATURE_BYTES],
        })
    }

    /// The same ticket, signed by this person.
    pub fn sign_ticket(&self, ticket: Ticket) -> Ticket {
        self.identity.sign_ticket(ticket)
    }

    /// A ticket that lets anybody watch and ring for an hour.
    pub fn open_ticket(&self) -> Bytes {
        Bytes::from(self.ticket(None, Grants::PRESENCE | Grants::RING, unix_s() + 3600).to_bytes())
    }
}

/// The key of all tickets that are made out to nobody.
pub fn open_key() -> TicketSecret {
    TicketSecret::from_bytes(&[0x77; 32])
}

/// The room that stands for a key, and who shows it.
pub struct Standing(RoomSecret);

impl Default for Standing {
    fn default() -> Self {
        Self::new()
    }
}

impl Standing {
    pub fn new() -> Self {
        Self(RoomSecret::from_bytes(&rand::random()))
    }

    pub fn key(&self) -> RoomKey {
        self.0.public()
    }

    /// Its room, whose group is whoever opens it.
    pub fn room(&self) -> Room {
        Room { id: RoomId::standing(&self.key()), ..Room::new() }
    }

    /// What shows the relay that a client has the key.
    pub fn proof(&self, client: &Client) -> Bytes {
        client.channel().show_room(&self.0).1
    }
}

/// A room's name and what lets one in.
pub struct Room {
    pub id: RoomId,
    pub secret: Arc<JoinSecret>,
    /// Of its group, when somebody opens it.
    pub epoch: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

impl Room {
    pub fn new() -> Self {
        Self::at(1)
    }

    pub fn at(epoch: u64) -> Self {
        Self { id: RoomId::passing(rand::random()), secret: JoinSecret::from_bytes(&rand::random()).into(), epoch }
    }

    /// The same name under another key.
    pub fn with_another_key(&self) -> Self {
        Self { id: self.id, ..Self::at(self.epoch) }
    }

    /// What the relay knows its join secret by.
    pub fn join_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.secret.public().as_bytes())
    }

    /// A message of its group, around bytes that stand for what is sealed.
    pub fn message(&self, epoch: u64, commit: bool, sealed: &[u8]) -> Bytes {
        Envelope { room: self.id, epoch, commit }.around(sealed).into()
    }

    pub fn name(&self) -> Bytes {
        Bytes::copy_from_slice(&self.id.0)
    }
}
