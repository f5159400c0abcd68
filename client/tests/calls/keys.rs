//! By what the keys of a call are agreed on, and that they do not stay the same.

use std::{sync::Arc, time::Duration};

use supernode_client::{
    Client, Config, Error, Event, Events, Purpose, RingOutcome, RoomOptions, TrackKind,
    e2ee::{Device, KeyExchange},
    proto::invite::Invite,
};
use supernode_client_testkit::{Person, in_time, next_ring, pair_with, quick};
use supernode_testkit::Relay;

use crate::talks::{hear, packets, speak};

async fn online(invite: &Invite, device: Device) -> (Client, Events) {
    supernode_client_testkit::online(invite, Arc::new(device), quick()).await
}

/// A device without X-Wing.
fn old(person: &Person) -> Device {
    Arc::into_inner(person.device()).unwrap().without_x_wing()
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_renews_its_keys_by_itself_and_nobody_misses_a_word() {
    let relay = Relay::open(1);
    let config = Config { renew_keys_within: Duration::from_secs(1), ..quick() };
    let pair = pair_with(&relay.invite(), config).await;
    assert_eq!(pair.caller.keys().to_string(), "X-Wing");
    let mut numbers = vec![pair.caller.safety_number().unwrap()];
    let said = packets(150);
    let speaking = speak(pair.caller.clone(), said.clone(), Duration::from_millis(20));
    let hearing = tokio::spawn({
        let callee = pair.callee.clone();
        async move { hear(&callee, TrackKind::Audio).await }
    });
    in_time(async {
        while numbers.len() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let number = pair.caller.safety_number().unwrap();
            if numbers.last() != Some(&number) {
                numbers.push(number);
            }
        }
    })
    .await;
    in_time(speaking).await.unwrap();
    assert!(in_time(hearing).await.unwrap() == said, "every word is heard, whatever the epoch");
    in_time(async {
        while pair.caller.safety_number().unwrap() != pair.callee.safety_number().unwrap() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_is_renewed_is_shown_in_the_call_at_once() {
    let relay = Relay::open(1);
    let (alice, bob) = (Person::new(), Person::new());
    let device = alice.device();
    let (caller, _caller_events) = in_time(Client::connect(&relay.invite(), device.clone(), quick())).await.unwrap();
    let (_callee, mut events) = bob.online(&relay.invite()).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let answer = async { next_ring(&mut events).await.answer().await.unwrap() };
    let (outcome, callee) = in_time(async { tokio::join!(ring.outcome(), answer) }).await;
    let RingOutcome::Answered(call) = outcome.unwrap() else { panic!("not answered") };
    let before = callee.safety_number().unwrap();
    caller.renew_delegation(alice.delegation_of(&device, 7200)).unwrap();
    in_time(async {
        while callee.safety_number().unwrap() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    drop(call);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_a_device_without_x_wing_says_so_on_both_sides() {
    let relay = Relay::open(1);
    let (alice, bob) = (Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&relay.invite()).await;
    let (_callee, mut events) = online(&relay.invite(), old(&bob)).await;
    let mut ring = in_time(caller.ring(&bob.ticket())).await.unwrap();
    let answer = async { next_ring(&mut events).await.answer().await.unwrap() };
    let (outcome, callee) = in_time(async { tokio::join!(ring.outcome(), answer) }).await;
    let RingOutcome::Answered(call) = outcome.unwrap() else { panic!("not answered") };
    let words = "X25519 only, because 1 of 2 devices can no X-Wing";
    assert_eq!([call.keys().to_string(), callee.keys().to_string()], [words, words]);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn a_room_with_x_wing_refuses_a_device_without_and_says_why_and_one_with_x25519_does_not() {
    let relay = Relay::open(1);
    let (host, guest) = (Person::new(), Person::new());
    let (hosting, mut events) = host.online(&relay.invite()).await;
    let (knocking, _guest_events) = online(&relay.invite(), old(&guest)).await;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::IncomingRing(ring) = event
                && matches!(ring.purpose(), Purpose::Knock { .. })
            {
                drop(ring.admit().await);
            }
        }
    });
    let room = in_time(hosting.create_room(RoomOptions::default())).await.unwrap();
    assert_eq!(room.keys().to_string(), "X-Wing");
    let refused = in_time(knocking.join_room(&host.ticket(), room.room_id(), RoomOptions::default())).await;
    assert!(matches!(refused, Err(Error::OtherKeys)), "{refused:?}");

    let options = RoomOptions { keys: KeyExchange::X25519, ..RoomOptions::default() };
    let room = in_time(hosting.create_room(options)).await.unwrap();
    let joined = in_time(knocking.join_room(&host.ticket(), room.room_id(), RoomOptions::default())).await.unwrap();
    assert_eq!(joined.keys().to_string(), "X25519 only, because 1 of 2 devices can no X-Wing");
}
