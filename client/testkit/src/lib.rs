//! For tests of the SDK: people with identities and devices, and two of them in a call.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "for tests: their names say what they do, and a failed unwrap is a failed test"
)]

use std::{future::Future, sync::Arc, time::Duration};

use supernode_client::{
    Call, Client, Config, Events, IncomingRing, PresenceState, RingOutcome, TrackId, TrackInfo,
    e2ee::{Device, DeviceSecret, IdentitySecret, Pass, Terms},
    proto::{
        identity::{Delegation, DeviceKey, Grants, IdentityKey, Revocation},
        invite::Invite,
    },
};
use supernode_testkit::unix_s;

/// Far above what anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Person {
    identity: IdentitySecret,
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

impl Person {
    pub fn new() -> Self {
        Self { identity: IdentitySecret::generate() }
    }

    /// A device that nobody has seen before, certified for an hour.
    pub fn device(&self) -> Arc<Device> {
        self.device_for(3600)
    }

    /// The same, certified for so many seconds.
    pub fn device_for(&self, seconds: u64) -> Arc<Device> {
        let secret = DeviceSecret::generate();
        let delegation = self.identity.delegate(&secret.public(), unix_s() + seconds);
        Arc::new(Device::new(secret, delegation).unwrap())
    }

    /// Another certificate of a device.
    pub fn delegation_of(&self, device: &Device, seconds: u64) -> Delegation {
        self.identity.delegate(&device.key(), unix_s() + seconds)
    }

    /// For whoever has it: to see this person's presence and to ring them.
    pub fn ticket(&self) -> Pass {
        self.identity.issue_pass(&terms(Grants::PRESENCE | Grants::RING))
    }

    pub fn ticket_for(&self, holder: &Self, grants: Grants) -> Pass {
        self.identity.issue_pass_for(holder.identity.public(), &terms(grants))
    }

    /// As [`Self::ticket`], of a later generation.
    pub fn ticket_of(&self, generation: u32) -> Pass {
        self.identity.issue_pass(&Terms { generation, ..terms(Grants::PRESENCE | Grants::RING) })
    }

    pub fn revoke(&self, devices: &[DeviceKey], number: u64) -> Revocation {
        self.identity.revoke(devices.to_vec(), number).unwrap()
    }

    pub fn public(&self) -> IdentityKey {
        self.identity.public()
    }

    /// Connects a new device, seen online.
    pub async fn online(&self, invite: &Invite) -> (Client, Events) {
        self.online_with(invite, quick()).await
    }

    pub async fn online_with(&self, invite: &Invite, config: Config) -> (Client, Events) {
        online(invite, self.device(), config).await
    }
}

/// Connects a device and waits until it is seen online: its key packages are at the relay then, so it can be rung.
pub async fn online(invite: &Invite, device: Arc<Device>, config: Config) -> (Client, Events) {
    let (client, events) = in_time(Client::connect(invite, device, config)).await.unwrap();
    in_time(client.set_presence(PresenceState::Online, Default::default())).await.unwrap();
    (client, events)
}

fn terms(grants: Grants) -> Terms {
    Terms { grants, relay: None, generation: 0, not_after_unix_s: unix_s() + 3600 }
}

/// Comes back fast and gives up soon.
pub fn quick() -> Config {
    Config {
        backoff_base: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(5),
        rejoin_grace: Duration::from_secs(15),
        ..Config::default()
    }
}

pub async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}

pub async fn next_ring(events: &mut Events) -> IncomingRing {
    in_time(events.next_ring()).await.expect("somebody rings")
}

/// Two people in a call: the caller's side and the other.
pub struct Pair {
    pub caller: Call,
    pub callee: Call,
    pub caller_client: Client,
    pub callee_client: Client,
    pub _events: (Events, Events),
}

pub async fn pair(invite: &Invite) -> Pair {
    pair_with(invite, quick()).await
}

pub async fn pair_with(invite: &Invite, config: Config) -> Pair {
    let (alice, bob) = (Person::new(), Person::new());
    let (caller_client, caller_events) = alice.online_with(invite, config.clone()).await;
    let (callee_client, mut callee_events) = bob.online_with(invite, config).await;
    let mut ring = in_time(caller_client.ring(&bob.ticket())).await.unwrap();
    let answer = async { next_ring(&mut callee_events).await.answer().await.unwrap() };
    let (outcome, callee) = in_time(async { tokio::join!(ring.outcome(), answer) }).await;
    let RingOutcome::Answered(caller) = outcome.unwrap() else { panic!("not answered") };
    Pair { caller, callee, caller_client, callee_client, _events: (caller_events, callee_events) }
}

pub fn track(name: &str) -> TrackInfo {
    TrackInfo { id: TrackId(rand::random()), name: name.into(), codec: "test".into(), parameters: name.into() }
}
