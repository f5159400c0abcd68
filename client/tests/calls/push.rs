//! Rings that reach somebody whose page was closed, through a real relay and a push service that looks at every byte.

use std::time::Duration;

use supernode_client::{Error, RingOutcome, proto::control::RefusalReason};
use supernode_client_testkit::{Person, in_time, next_ring};
use supernode_testkit::{PushService, Relay, eventually};

fn is_offline<T>(rung: &Result<T, Error>) -> bool {
    matches!(rung, Err(Error::Refused(refusal)) if refusal.reason == RefusalReason::Offline)
}

//
#[tokio::test(flavor = "multi_thread")]
async fn whoever_goes_on_ringing_reaches_somebody_whom_the_ring_has_woken() {
    let mut service = PushService::start().await;
    let relay = Relay::waking(2, service.waker(&Default::default()));
    let (alice, bob, nobody) = (Person::new(), Person::new(), Person::new());
    let (caller, _caller_events) = alice.online(&relay.invite()).await;
    let (callee, _events) = bob.online(&relay.invite()).await;
    assert_eq!(callee.push_key().map(|key| key.len()), Some(65));
    in_time(callee.set_push_endpoint(Some(&service.endpoint("bob")))).await.unwrap();
    in_time(callee.close()).await;

    // Nobody waits for somebody who has never been here, nor longer than they want.
    assert!(is_offline(&in_time(caller.ring_patiently(&nobody.ticket(), Duration::ZERO)).await));
    let (ticket, ringing) = (bob.ticket(), caller.clone());
    let rings = tokio::spawn(async move { ringing.ring_patiently(&ticket, Duration::from_secs(45)).await });
    assert_eq!(service.next().await.whom, "bob");
    let (callee, mut events) = bob.online(&relay.invite()).await;
    let incoming = next_ring(&mut events).await;
    let mut ring = in_time(rings).await.unwrap().expect("it reaches him");
    let (answered, outcome) = tokio::join!(incoming.answer(), ring.outcome());
    assert!(answered.is_ok() && matches!(outcome, Ok(RingOutcome::Answered(_))), "{outcome:?}");
    assert!(service.is_left_alone().await, "one message, however often she rang");
    drop(callee);
}

//
#[tokio::test(flavor = "multi_thread")]
async fn where_somebody_is_woken_is_said_again_on_each_connection_and_taken_back_by_a_word() {
    let mut service = PushService::start().await;
    let relay = Relay::waking(1, service.waker(&Default::default()));
    let bob = Person::new();
    let (callee, _events) = bob.online(&relay.invite()).await;
    let refused = in_time(callee.set_push_endpoint(Some("https://elsewhere.example/bob"))).await;
    assert!(matches!(&refused, Err(Error::Refused(refusal)) if refusal.detail == "endpoint"), "{refused:?}");
    in_time(callee.set_push_endpoint(Some(&service.endpoint("bob")))).await.unwrap();
    assert_eq!(relay.population().push_endpoints, 1);
    // A relay that starts anew knows nobody, and is told by whoever is still there.
    let relay = relay.restart().await;
    eventually("he says it again", || relay.population().push_endpoints == 1).await;
    in_time(callee.set_push_endpoint(None)).await.unwrap();
    assert_eq!(relay.population().push_endpoints, 0);
    in_time(callee.close()).await;
    let (caller, _caller_events) = Person::new().online(&relay.invite()).await;
    assert!(is_offline(&in_time(caller.ring(&bob.ticket())).await));
    assert!(service.is_left_alone().await);
}
