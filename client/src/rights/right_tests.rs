//! Rings that no honest client and relay bring about: it takes more than what is public here.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::{sync::Arc, time::Duration};

use supernode_calls::rights::Greeting;
use supernode_client_testkit::{Person, in_time};
use supernode_e2ee::{Device, DeviceSecret};
use supernode_proto::{
    control::{DepositKeyPackages, client_message},
    identity::Grants,
};
use supernode_testkit::Relay;

use crate::{Client, Config, Events, IncomingRing, PresenceState, RingOutcome};

/// Connects a new device of this person, seen online, by the client that is tested from inside.
async fn online(person: &Person, relay: &Relay) -> (Client, Events) {
    let (client, events) = in_time(Client::connect(&relay.invite(), person.device(), quick())).await.unwrap();
    in_time(client.set_presence(PresenceState::Online, Default::default())).await.unwrap();
    (client, events)
}

fn quick() -> Config {
    Config { connect_timeout: Duration::from_secs(5), ..Config::default() }
}

async fn next_ring(events: &mut Events) -> IncomingRing {
    in_time(events.next_ring()).await.expect("somebody rings")
}

/// The relay sees a right to ring, and inside there is none: whoever rings lies, or the relay lets them ring.
//
#[tokio::test(flavor = "multi_thread")]
async fn a_ring_without_a_right_of_its_own_is_never_shown_whatever_the_relay_let_through() {
    let relay = Relay::open(2);
    let (alice, bob, eve) = (Person::new(), Person::new(), Person::new());
    let (caller, _caller_events) = online(&alice, &relay).await;
    let (callee, mut events) = online(&bob, &relay).await;
    in_time(callee.limit_tickets(2, &[])).await.unwrap();
    let good = bob.ticket_of(2);
    for inside in [bob.ticket_of(1), eve.ticket_of(2), bob.ticket_for(&eve, Grants::RING)] {
        let mut ring = in_time(caller.ring_showing(&good, &inside, Greeting::Call)).await.unwrap();
        assert!(matches!(in_time(ring.outcome()).await, Ok(RingOutcome::Busy)));
    }
    let ring = in_time(caller.ring(&good)).await.unwrap();
    let shown = next_ring(&mut events).await;
    assert_eq!(shown.caller().identity, caller.identity(), "the first one that is shown");
    drop(ring);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_cannot_open_a_ring_is_busy_for_itself_only() {
    let relay = Relay::open(2);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events) = online(&alice, &relay).await;
    let (_desk, mut desk_events) = online(&bob, &relay).await;
    // The phone has forgotten the keys of a package that the relay still has, as after a new start.
    let before = bob.device();
    let packages = vec![before.key_package().unwrap().into()];
    let secret = DeviceSecret::from_bytes(&before.secret().to_bytes());
    let phone = Arc::new(Device::new(secret, before.delegation().clone()).unwrap());
    let config = Config { key_packages: 0, ..quick() };
    let (phone, _phone_events) = in_time(Client::connect(&relay.invite(), phone, config)).await.unwrap();
    let deposit = DepositKeyPackages { packages, ..DepositKeyPackages::default() };
    let link = phone.inner.link().await.unwrap();
    in_time(phone.inner.request(&link, client_message::Body::DepositKeyPackages(deposit))).await.unwrap();

    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    assert_eq!(ring.devices(), 2);
    let at_the_desk = next_ring(&mut desk_events).await;
    let (outcome, answered) = in_time(async { tokio::join!(ring.outcome(), at_the_desk.answer()) }).await;
    assert!(matches!(outcome, Ok(RingOutcome::Answered(_))), "{outcome:?}");
    answered.unwrap();
}
