//! Who and what there is in a world: people with devices, and rooms, all made from the seed.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use quinn_proto::{ClientConfig, crypto::rustls::QuicClientConfig};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustls::client::Resumption;
use supernode_e2ee::LinkSecret;
use supernode_keys::{DeviceSecret, IdentitySecret, JoinSecret, Pass};
use supernode_proto::identity::{Delegation, Grants, Holder, IdentityKey, RelayPin, RoomId, SIGNATURE_BYTES, Ticket};
use supernode_tls::PinVerifier;

use crate::clock::Clock;

/// How long what people sign is good for: longer than any world lasts.
const VALID_S: u64 = 24 * 3600;

/// A person.
pub struct Person {
    identity: IdentitySecret,
    /// Shows others that they may ring and watch this person, one for each other person.
    passes: Vec<Pass>,
}

/// A device of somebody.
pub struct Device {
    /// Whose.
    pub person: usize,
    /// Its key.
    pub secret: DeviceSecret,
    /// By its owner.
    pub delegation: Delegation,
}

/// A room's name and what lets one in.
pub struct Room {
    /// Its name.
    pub id: RoomId,
    /// By what one comes in.
    pub opens_by: OpensBy,
}

/// By what one comes into a room.
pub enum OpensBy {
    /// The same in every epoch: who may come in is the group's business, and there is none.
    Secret(JoinSecret),
    /// The room stands: its members keep a group, and let in whoever has its link, as everybody does.
    Link(LinkSecret),
}

/// All of them.
pub struct Cast {
    /// By number.
    pub people: Vec<Person>,
    /// By number, which is also their client's.
    pub devices: Vec<Device>,
    /// By number; those of calls are made as they are needed.
    pub rooms: Vec<Room>,
    /// The relay, as everybody knows it.
    pub pin: RelayPin,
    /// Where it is.
    pub relay: SocketAddr,
    /// How clients connect.
    pub quic: ClientConfig,
    rng: StdRng,
}

impl Cast {
    /// So many people with one device each, or up to so many.
    pub fn new(people: usize, devices_max: usize, rooms: usize, pin: RelayPin, relay: SocketAddr, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let until = Clock::unix(Default::default()).as_secs() + VALID_S;
        let identities: Vec<_> = (0..people).map(|_| IdentitySecret::from_bytes(&rng.random())).collect();
        let mut devices = Vec::new();
        for (person, identity) in identities.iter().enumerate() {
            for _ in 0..rng.random_range(1..=devices_max) {
                let secret = DeviceSecret::from_bytes(&rng.random());
                let delegation = identity.delegate(&secret.public(), until);
                devices.push(Device { person, secret, delegation });
            }
        }
        let keys: Vec<IdentityKey> = identities.iter().map(IdentitySecret::public).collect();
        let pass = |issuer: &IdentitySecret, holder: &IdentityKey, rng: &mut StdRng| {
            let ticket = issuer.sign_ticket(Ticket {
                issuer: issuer.public(),
                holder: Holder::Identity(*holder),
                relay: None,
                grants: Grants::PRESENCE | Grants::RING,
                generation: 0,
                not_after_unix_s: until,
                id: rng.random(),
                signature: [0; SIGNATURE_BYTES],
            });
            Pass::new(ticket, None).expect("a ticket for a person has no key")
        };
        let people = identities.into_iter().map(|identity| {
            let passes = keys.iter().map(|holder| pass(&identity, holder, &mut rng)).collect();
            Person { identity, passes }
        });
        let people = people.collect();
        let quic = client_config(pin);
        let mut cast = Self { people, devices, rooms: Vec::new(), pin, relay, quic, rng };
        for _ in 0..rooms {
            cast.open_room();
        }
        cast
    }

    /// A room that nobody knows yet.
    pub fn open_room(&mut self) -> usize {
        let (id, secret) = (RoomId::passing(self.rng.random()), JoinSecret::from_bytes(&self.rng.random()));
        self.rooms.push(Room { id, opens_by: OpensBy::Secret(secret) });
        self.rooms.len() - 1
    }

    /// A room that stands, of which everybody has the link.
    pub fn build_room(&mut self, link: &[u8; LinkSecret::BYTES]) {
        if let Ok(link) = LinkSecret::from_slice(link) {
            self.rooms.push(Room { id: link.room(), opens_by: OpensBy::Link(link) });
        }
    }

    /// The room of this name.
    pub fn room(&self, id: &RoomId) -> Option<usize> {
        self.rooms.iter().position(|room| room.id == *id)
    }

    /// The device of this key.
    pub fn device(&self, key: &[u8]) -> Option<usize> {
        self.devices.iter().position(|device| device.secret.public().as_bytes()[..] == *key)
    }

    /// The person of this key.
    pub fn person(&self, key: &IdentityKey) -> Option<usize> {
        self.people.iter().position(|person| person.identity.public() == *key)
    }

    /// What shows that `holder` may ring and watch `issuer`.
    pub fn pass(&self, issuer: usize, holder: usize) -> &Pass {
        &self.people[issuer].passes[holder]
    }

    /// A person's key.
    pub fn identity(&self, person: usize) -> IdentityKey {
        self.people[person].identity.public()
    }
}

impl Room {
    /// Its name in a message.
    pub fn name(&self) -> Bytes {
        Bytes::copy_from_slice(&self.id.0)
    }

    /// The secret of its link, if it stands.
    pub fn link(&self) -> Option<&LinkSecret> {
        match &self.opens_by {
            OpensBy::Link(link) => Some(link),
            OpensBy::Secret(_) => None,
        }
    }
}

/// QUIC as the SDK speaks it.
fn client_config(pin: RelayPin) -> ClientConfig {
    let provider = supernode_tls::provider();
    let mut tls = supernode_tls::client_config(provider.clone(), Arc::new(PinVerifier::new(pin, provider)));
    tls.resumption = Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has QUIC's first suite");
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(supernode_tls::transport()));
    config
}
